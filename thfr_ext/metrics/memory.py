"""What metrics keep of scores: all of them, or bins in bounded memory (csrc/include/thfr/metrics.h)."""

from __future__ import annotations

import torch
from torch import Tensor

from thfr_ext.metrics.base import State
from thfr_ext.metrics.bins import merge_bins, to_order

#: default of a bounded metric's ``memory``: bytes of its whole state
BOUNDED_MEMORY = 32_000_000
LEAST_MEMORY = 1_000_000
#: tensors that may wait in a list: each costs more than its numbers
PENDING_TENSORS = 32
#: the weight of a region in its bins
REGION_WEIGHT = 2**40
#: of areas of bins: a region's weights are rounded to 1/2 at each threshold, sums to fp64
ROUNDING = 1e-11


def _split(tensors: list[Tensor], dtype: torch.dtype) -> tuple[list[Tensor], list[Tensor]]:
    """Those of ``dtype``, and raw scores."""
    kept, raw = [t for t in tensors if t.dtype == dtype], [t for t in tensors if t.dtype != dtype]
    return kept, [torch.cat(raw)] if len(raw) > PENDING_TENSORS else raw


def _joined(raw: list[Tensor], like: list[Tensor]) -> Tensor:
    if raw:
        return torch.cat(raw)
    return torch.empty(0, device=like[0].device if like else None)


def join_tail(tensors: list[Tensor]) -> list[Tensor]:
    """The same numbers in the same order, in few tensors: each longer than twice the next."""
    first, joined = len(tensors) - 1, 0
    while first > 0 and len(tensors[first - 1]) <= 2 * (joined := joined + len(tensors[first])):
        first -= 1
    return tensors if first >= len(tensors) - 1 else [*tensors[:first], torch.cat(tensors[first:])]


def join_exact(state: State, whole: bool) -> None:
    """The tensors of an exact metric joined: in few, or in one a name if ``whole``."""
    for name, tensors in state.items():
        state[name] = [torch.cat(tensors)] if whole else join_tail(tensors)


def keep_tops(scores: Tensor, areas: Tensor, saturations: Tensor) -> tuple[Tensor, Tensor]:
    """Scores and areas of regions without what saturation leaves out."""
    if bool((areas <= saturations).all()):
        return scores, areas
    if scores.device.type == "cuda":  # all regions at once: each by itself would take a launch
        return _tops_at_once(scores, areas, saturations)
    parts = scores.split(areas.tolist())
    tops = [
        part.topk(s, sorted=False).values if s < len(part) else part
        for part, s in zip(parts, saturations.tolist(), strict=True)
    ]
    return torch.cat(tops), torch.minimum(areas, saturations)


def _tops_at_once(scores: Tensor, areas: Tensor, saturations: Tensor) -> tuple[Tensor, Tensor]:
    order = scores.sort(descending=True, stable=True).indices
    region = torch.arange(len(areas), device=scores.device)
    region = region.repeat_interleave(areas, output_size=len(scores))
    order = order[region[order].sort(stable=True).indices]
    rank = torch.arange(len(scores), device=scores.device) - (areas.cumsum(0) - areas)[region]
    return scores[order[rank < saturations[region]]], torch.minimum(areas, saturations)


def region_bins(scores: Tensor, areas: Tensor, saturations: Tensor) -> Tensor:  # [3,n] int64
    """Bins of regions' pixels: each region's pixels, as far as they count, weigh ``REGION_WEIGHT`` in all
    (less, if they are fewer than the saturation). The sum over a region's k highest is that share of it,
    rounded, so that rounding does not add up."""
    keys, order = to_order(scores).sort(descending=True)
    region = torch.arange(len(areas), device=scores.device)
    region = region.repeat_interleave(areas, output_size=len(scores))[order]
    region, by_region = region.sort(stable=True)
    keys = keys[by_region]
    rank = torch.arange(len(keys), device=scores.device) - (areas.cumsum(0) - areas)[region]
    share = REGION_WEIGHT / saturations[region].double()
    until = (torch.minimum(rank + 1, saturations[region]) * share).round()
    weights = (until - (torch.minimum(rank, saturations[region]) * share).round()).long()
    keys, weights = keys[weights > 0], weights[weights > 0]
    distinct, place = keys.unique(return_inverse=True)
    sums = torch.zeros_like(distinct).index_add(0, place, weights)
    return torch.stack([distinct, distinct, sums]).flip(1)


class Budget:
    """Splits the bytes of a bounded metric: two sketches of 3/10 each, two times 1/8 for what waits."""

    def __init__(self, memory: int) -> None:
        self.memory = memory
        self.bins = 3 * memory // 10 // 24
        self.pending = memory // 8

    def join(
        self, tensors: list[Tensor], share: float, relative: bool, whole: bool
    ) -> tuple[list[Tensor], float]:
        """Bins (int64 [3,n]) and raw scores, joined to one sketch where they exceed their share; ``whole``:
        in any case."""
        sketches, raw = _split(tensors, torch.int64)
        pending = sum(t.numel() * t.element_size() for t in [*sketches[1:], *raw])
        many = len(sketches) > PENDING_TENSORS or pending >= self.pending
        too_many = bool(sketches) and sketches[0].shape[1] > self.bins
        if many or too_many or (whole and (raw or len(sketches) != 1)):
            scores = _joined(raw, sketches)
            sketch, raised = merge_bins(sketches, scores, self.bins, share, relative)
            return [sketch], raised
        return sketches + raw, share
