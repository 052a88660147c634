"""Plain PyTorch twins of the operators of bounded metrics (csrc/include/thfr/metrics.h), a bin at a time."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from thfr_ext.metrics.checks import require_numbers


def to_order(scores: Tensor) -> Tensor:  # [n] -> [n] int64
    """Scores as integers of the same order; -0 is 0."""
    bits = scores.double().view(torch.int64)
    return torch.where(bits < 0, -(bits & torch.iinfo(torch.int64).max), bits)


def to_score(order: Tensor) -> Tensor:  # [n] int64 -> [n] fp64
    minus = torch.iinfo(torch.int64).min
    return torch.where(order < 0, -order | minus, order).view(torch.float64)


def bit_length(x: Tensor) -> Tensor:
    """Of int64 in [0, 2^63)."""
    powers = torch.ones((), dtype=torch.int64, device=x.device) << torch.arange(63, device=x.device)
    return torch.searchsorted(powers, x, right=True)


def _sum(keys: Tensor, counts: Tensor) -> tuple[Tensor, Tensor]:
    """Distinct keys, ascending, with the sums of their counts."""
    distinct, place = keys.unique(return_inverse=True)
    return distinct, torch.zeros_like(distinct).index_add(0, place, counts)


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
) -> tuple[Tensor, Tensor]:  # [3,m] int64, [] fp64
    require_numbers("merge_bins", scores)
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
    share_used = torch.tensor(joiner.share, dtype=torch.float64, device=scores.device)
    return rows.reshape(-1, 3).T.contiguous(), share_used


def bins_area(
    negatives: Tensor,  # [3,n] int64
    positives: Tensor,  # [3,p] int64
    total: float,
    limits: Sequence[float],
) -> Tensor:  # [2,L] fp64
    rows = []
    for end in (0, 1):  # negatives at their highest and positives at their lowest, and the opposite
        keys, counts = _sum(negatives[end], negatives[2])
        ranks = torch.nn.functional.pad(counts.cumsum(0), (1, 0))
        at, weights = positives[1 - end], positives[2].double()
        above = (ranks[-1] - ranks[torch.searchsorted(keys, at, right=True)]).double()
        equal = (ranks[-1] - ranks[torch.searchsorted(keys, at)]).double() - above
        for limit in limits:
            kept = limit * ranks[-1].double()
            cut = (kept - above).clamp_min(0).square() / (2 * equal).clamp_min(1)
            step = torch.where(above + equal <= kept, kept - above - equal / 2, cut)
            rows.append((weights * step).sum() / kept / total)
    return torch.stack(rows).view(2, len(limits))
