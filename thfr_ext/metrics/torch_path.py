"""Bins in PyTorch operations, joined all at once: by blocks of the binary digits of scores, not one by one.

A block of level k holds the scores (as integers of the same order) that differ in their last k bits only: two
blocks are apart or one lies in the other, so that the bounds of bins stay where they are while samples come
in and sketches merge. A sample goes to the largest block around it that is no heavier than a joined bin may
be. A bin that was joined earlier cannot be taken apart again: where its block has become too heavy, it stays
as it is, and the rest goes to blocks inside. So a threshold lies in one bin of each level at most.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from thfr_ext.metrics.checks import BINS, require_numbers
from thfr_ext.metrics.reference import bit_length, to_order

#: of the block of all scores
TOP = 64
LOWEST = torch.iinfo(torch.int64).min
#: sums of weights fit int64
MOST_WEIGHT = 9.2e18


def _block_start(key: Tensor, level: Tensor) -> Tensor:
    low = level.clamp_max(TOP - 1)
    return torch.where(level == TOP, LOWEST, key >> low << low)


def _block_end(key: Tensor, level: Tensor) -> Tensor:
    """The last score of a block; sums wrap where the block ends at the highest integer."""
    low = level.clamp_max(TOP - 1)
    return torch.where(level == TOP, -(LOWEST + 1), (key >> low << low) + (torch.ones_like(low) << low) - 1)


class _Items:
    """Samples and bins in the order of their blocks: outer ones first."""

    def __init__(self, sketches: Sequence[Tensor], scores: Tensor) -> None:
        keys = to_order(scores)
        bins = torch.cat([*sketches, torch.stack([keys, keys, torch.ones_like(keys)])], 1)
        differing = bins[0] ^ bins[1]  # negative if the signs differ: no block but that of all holds both
        level = torch.where(differing < 0, TOP, bit_length(differing.clamp_min(0)))
        start = _block_start(bins[1], level)
        order = level.sort(descending=True, stable=True).indices
        order = order[start[order].sort(stable=True).indices]
        self.hi, self.lo, self.weight = bins.index_select(1, order)
        self.level, self.start = level[order], start[order]
        self.until = torch.nn.functional.pad(self.weight.cumsum(0), (1, 0))

    def blocks(self, share: float, relative: bool) -> Tensor:
        """The level of each item's block."""
        total = self.until[-1]
        least, most = self.level, torch.full_like(self.level, TOP)
        for _ in range(TOP.bit_length()):  # of 65 levels; a larger block is heavier, and less is above it
            level = (least + most + 1) // 2
            end = torch.searchsorted(self.start, _block_end(self.start, level), right=True)
            up_to = self.until[end]
            weight = up_to - self.until[torch.searchsorted(self.start, _block_start(self.start, level))]
            fits = weight.double() <= share * (total - up_to if relative else total).double()
            least, most = torch.where(fits, level, least), torch.where(fits, most, level - 1).clamp_min(least)
        return least

    def firsts(self, level: Tensor) -> Tensor:
        """Whether an item is the first of its block: those of one follow each other."""
        start = _block_start(self.start, level)
        new = (start[1:] != start[:-1]) | (level[1:] != level[:-1])
        return torch.nn.functional.pad(new, (1, 0), value=True)

    def join(self, first: Tensor, count: int) -> Tensor:  # [3,count]
        bin = first.cumsum(0) - 1
        hi, lo, weight = (torch.empty_like(self.hi[:1]).expand(count).clone() for _ in range(3))
        hi.scatter_reduce_(0, bin, self.hi, "amax", include_self=False)
        lo.scatter_reduce_(0, bin, self.lo, "amin", include_self=False)
        weight.zero_().index_add_(0, bin, self.weight)
        order = lo.sort(descending=True, stable=True).indices
        order = order[hi[order].sort(descending=True, stable=True).indices]
        return torch.stack([hi, lo, weight]).index_select(1, order)


def look(sketches: Sequence[Tensor], scores: Tensor) -> tuple[bool, bool]:
    """Whether a score is NaN, and whether the sketches are none: one wait for both."""
    hi, lo, weight = torch.cat([*sketches, scores.new_empty((3, 0), dtype=torch.int64)], 1)
    bad = (lo > hi).any() | (weight < 1).any() | (weight.double().sum() + len(scores) > MOST_WEIGHT)
    for sketch in sketches:
        bad = bad | (sketch[0].diff() > 0).any()
    nan, other = torch.stack([scores.isnan().any(), bad]).tolist()
    return nan, other


def _share(share: float, like: Tensor) -> Tensor:
    return torch.as_tensor(share, dtype=torch.float64, device=like.device)


def merge_bins(
    sketches: Sequence[Tensor],  # [3,n] int64 each
    scores: Tensor,  # [n]
    most: int,
    share: float,
    relative: bool,
) -> tuple[Tensor, Tensor]:  # [3,m] int64, [] fp64
    """See ``thfr::merge_bins`` in csrc/include/thfr/metrics.h."""
    nan, bad = look(sketches, scores)
    if nan:
        require_numbers("merge_bins", scores)
    if bad:
        raise ValueError(f"merge_bins: expected {BINS}, got something else")
    if len(scores) == 0 and all(s.shape[1] == 0 for s in sketches):
        return torch.empty((3, 0), dtype=torch.int64, device=scores.device), _share(share, scores)
    items, most_now = _Items(sketches, scores), most
    while True:
        first = items.firsts(items.blocks(share, relative))
        count = int(first.sum())
        if count <= most_now:
            return items.join(first, count), _share(share, scores)
        share, most_now = max(1.5 * share, 1 / most), most - most // 4


def _summed(values: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
    """Values in ascending order and the weight below each place: not merged, so that nothing waits."""
    ordered, order = values.sort()
    return ordered, torch.nn.functional.pad(weights[order].cumsum(0), (1, 0))


def bins_area(
    negatives: Tensor,  # [3,n] int64
    positives: Tensor,  # [3,p] int64
    total: float,
    limits: Sequence[float],
) -> Tensor:  # [2,L] fp64
    """See ``thfr::bins_area`` in csrc/include/thfr/metrics.h."""
    rows = []
    for end in (0, 1):  # negatives at their highest and positives at their lowest, and the opposite
        keys, ranks = _summed(negatives[end], negatives[2])
        at, weights = positives[1 - end].contiguous(), positives[2].double()
        above = (ranks[-1] - ranks[torch.searchsorted(keys, at, right=True)]).double()
        equal = (ranks[-1] - ranks[torch.searchsorted(keys, at)]).double() - above
        for limit in limits:
            kept = limit * ranks[-1].double()
            cut = (kept - above).clamp_min(0).square() / (2 * equal).clamp_min(1)
            step = torch.where(above + equal <= kept, kept - above - equal / 2, cut)
            rows.append((weights * step).sum() / kept / total)
    return torch.stack(rows).view(2, len(limits))
