"""A plain twin of ``merge_bins`` (csrc/metrics/cpu/bins.cpp), a bin at a time, and what bins must hold."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from thfr_ext.metrics.bins import to_order


class _Joiner:
    """See ``Joiner`` in csrc/metrics/cpu/bins.cpp."""

    LAYERS = 8

    def __init__(self, most: int, share: float, relative: bool, total: int) -> None:
        self.most, self.share, self.relative, self.total = most, share, relative, total
        self.clear()

    def clear(self) -> None:
        self.above = 0
        self.bins: list[list[int]] = []  # hi, lo, weight
        self.layers: list[tuple[list[int], float, float]] = []  # lowest bin, caps of neighbours and overlaps

    def push(self, bin: list[int]) -> None:
        self.place(bin)
        if len(self.bins) > self.most:
            self.shrink()

    def place(self, bin: list[int]) -> None:
        into = self.find(bin)
        if isinstance(into, list):
            into[1] = min(into[1], bin[1])
            into[2] += bin[2]
        else:
            cap = self.share * (self.above if self.relative else self.total)
            self.bins.append(list(bin))
            self.layers[into : into + 1] = [(self.bins[-1], cap / 2**into, 2 * cap)]
        self.above += bin[2]

    def find(self, bin: list[int]) -> list[int] | int:
        """The bin to join ``bin`` to, or the layer in which it is the next."""
        hi, lo, weight = bin
        for i, (last, join, cap) in enumerate(self.layers):
            apart, same = hi < last[1], hi == last[1] and lo == last[0]
            if same or last[2] + weight <= (join if apart else cap):
                return last
            if apart:
                return i
        if len(self.layers) < self.LAYERS:
            return len(self.layers)
        lows = [last for last, _, _ in self.layers]
        around = [last for last in lows if last[1] <= lo]
        return max(around, key=lambda c: c[1]) if around else min(lows, key=lambda c: c[1])

    def shrink(self) -> None:
        while len(self.bins) > self.most - self.most // 4:
            self.share = max(1.5 * self.share, 1 / self.most)
            bins = self.bins
            self.clear()
            for bin in bins:
                self.place(bin)


def merge_bins(
    sketches: Sequence[Tensor],  # [3,n] int64 each
    scores: Tensor,  # [n]
    most: int,
    share: float,
    relative: bool,
) -> tuple[Tensor, float]:  # [3,m] int64
    keys, counts = to_order(scores).unique(return_counts=True)
    bins = [tuple(c) for c in torch.cat([*sketches, torch.stack([keys, keys, counts])], 1).T.tolist()]
    bins.sort(key=lambda bin: (-bin[0], -bin[1]))
    joined: list[list[int]] = []
    for bin in bins:
        if joined and joined[-1][:2] == list(bin[:2]):
            joined[-1][2] += bin[2]
        else:
            joined.append(list(bin))
    joiner = _Joiner(most, share, relative, sum(bin[2] for bin in joined))
    for entry in joined:
        joiner.push(entry)
    rows = torch.tensor(joiner.bins, dtype=torch.int64, device=scores.device)
    return rows.reshape(-1, 3).T.contiguous(), joiner.share


def hold(bins: Tensor, scores: Tensor) -> bool:  # [3,n] int64, [n]
    """Whether scores can be given to bins so that each lies in its own: sorted ones to sorted ends."""
    keys = to_order(scores).sort(descending=True).values
    highs, lows = (bins[i].repeat_interleave(bins[2]).sort(descending=True).values for i in (0, 1))
    return len(highs) == len(keys) and bool((lows <= keys).all()) and bool((keys <= highs).all())
