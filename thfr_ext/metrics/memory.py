"""What metrics keep of scores: everything, packed, or cells in bounded memory; see
csrc/include/thfr/metrics.h."""

from __future__ import annotations

import torch
from torch import Tensor

import thfr_ext.metrics.ops  # noqa: F401  (registers the operators)
from thfr_ext.metrics.reference import to_order, to_score, unpack

#: default of a bounded metric's ``memory``: bytes of its whole state
BOUNDED_MEMORY = 32_000_000
LEAST_MEMORY = 1_000_000
#: raw scores that are kept before they are packed
PENDING_SCORES = 2**20
#: tensors that may wait in a list: each costs more than its numbers
PENDING_TENSORS = 32
#: the weight of a region in its cells
REGION_WEIGHT = 2**40
#: of areas of cells: a region's weights are rounded to 1/2 at each threshold, sums to fp64
ROUNDING = 1e-11


def keeps_raw(device: torch.device) -> bool:
    """Whether scores stay as they are: what packs them is made for the CPU, and memory is scarcer there."""
    return device.type == "cuda"


def _split(tensors: list[Tensor], dtype: torch.dtype) -> tuple[list[Tensor], list[Tensor]]:
    """Those of ``dtype``, and raw scores."""
    kept, raw = [t for t in tensors if t.dtype == dtype], [t for t in tensors if t.dtype != dtype]
    return kept, [torch.cat(raw)] if len(raw) > PENDING_TENSORS else raw


def _joined(raw: list[Tensor], like: list[Tensor]) -> Tensor:
    if raw:
        return torch.cat(raw)
    return torch.empty(0, device=like[0].device if like else None)


def pack(tensors: list[Tensor], *, flush: bool = False, whole: bool = False) -> list[Tensor]:
    """Packed runs (uint8) and raw scores, with the raw ones packed if they are many (or ``flush``), and with
    runs merged so that each is longer than 1.25 times the sum of the shorter ones; ``whole``: as one run.
    Where scores stay raw: they alone, in few tensors or one."""
    if tensors and keeps_raw(tensors[0].device):
        raw = [_unpacked(t) if t.dtype == torch.uint8 else t for t in tensors]
        return [torch.cat(raw)] if flush or whole else join_tail(raw)
    runs, raw = _split(tensors, torch.uint8)
    if sum(map(len, raw)) >= PENDING_SCORES or ((flush or whole) and (raw or not runs)):
        runs, raw = [*runs, torch.ops.thfr_ext.pack_scores(_joined(raw, runs))], []
    runs.sort(key=len, reverse=True)
    first, merged = len(runs) - 1, 0
    while first > 0 and len(runs[first - 1]) <= 1.25 * (merged := merged + len(runs[first])):
        first -= 1
    if whole:
        first = 0
    if first < len(runs) - 1:
        runs[first:] = [torch.ops.thfr_ext.merge_packed(runs[first:])]
    return runs + raw


def _unpacked(run: Tensor) -> Tensor:
    """The scores of a packed run, which a metric on the CPU has made: fp32 if that holds them."""
    keys, counts = unpack(run)
    scores = to_score(keys).repeat_interleave(counts)
    return scores.float() if torch.equal(scores.float().double(), scores) else scores


def join_tail(tensors: list[Tensor]) -> list[Tensor]:
    """The same numbers in the same order, in few tensors: each longer than twice the next."""
    first, joined = len(tensors) - 1, 0
    while first > 0 and len(tensors[first - 1]) <= 2 * (joined := joined + len(tensors[first])):
        first -= 1
    return tensors if first >= len(tensors) - 1 else [*tensors[:first], torch.cat(tensors[first:])]


def is_empty(runs: list[Tensor]) -> bool:
    """Whether flushed scores are none: the first number of packed runs is that of distinct scores."""
    return not any(bool(run[:8].any()) if run.dtype == torch.uint8 else len(run) for run in runs)


def area(
    negatives: list[Tensor], scores: Tensor, offsets: Tensor, saturations: Tensor, limits: list[float]
) -> Tensor:
    """Areas from flushed negatives, packed or raw."""
    if negatives[0].dtype == torch.uint8:
        return torch.ops.thfr_ext.packed_area(negatives, scores, offsets, saturations, limits)
    dtype = torch.promote_types(negatives[0].dtype, scores.dtype)
    return torch.ops.thfr_ext.spro_area(
        negatives[0].to(dtype), scores.to(dtype), offsets, saturations, limits
    )


def rank_area(negatives: list[Tensor], positives: list[Tensor]) -> Tensor:
    """Area under the ROC curve from flushed scores, packed or raw."""
    if negatives[0].dtype == torch.uint8:
        return torch.ops.thfr_ext.packed_auroc(negatives, positives)
    scores = torch.cat([negatives[0], positives[0]])
    labels = torch.arange(len(scores), device=scores.device) >= len(negatives[0])
    return torch.ops.thfr_ext.auroc(scores, labels)


def keep_tops(scores: Tensor, areas: Tensor, saturations: Tensor) -> tuple[Tensor, Tensor]:
    """Scores and areas of regions without what saturation leaves out."""
    if bool((areas <= saturations).all()):
        return scores, areas
    if keeps_raw(scores.device):  # all regions at once: each by itself would take a launch
        order = scores.sort(descending=True, stable=True).indices
        region = torch.arange(len(areas), device=scores.device)
        region = region.repeat_interleave(areas, output_size=len(scores))
        order = order[region[order].sort(stable=True).indices]
        rank = torch.arange(len(scores), device=scores.device) - (areas.cumsum(0) - areas)[region]
        return scores[order[rank < saturations[region]]], torch.minimum(areas, saturations)
    parts = scores.split(areas.tolist())
    tops = [
        part.topk(s, sorted=False).values if s < len(part) else part
        for part, s in zip(parts, saturations.tolist(), strict=True)
    ]
    return torch.cat(tops), torch.minimum(areas, saturations)


def region_cells(scores: Tensor, areas: Tensor, saturations: Tensor) -> Tensor:  # [3,n] int64
    """Cells of regions' pixels: each region's pixels, as far as they count, weigh ``REGION_WEIGHT`` in all
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
        self.cells = 3 * memory // 10 // 24
        self.pending = memory // 8

    def join(
        self, tensors: list[Tensor], share: float, relative: bool, whole: bool
    ) -> tuple[list[Tensor], float]:
        """Cells (int64 [3,n]) and raw scores, joined to one sketch where they exceed their share; ``whole``:
        in any case."""
        sketches, raw = _split(tensors, torch.int64)
        pending = sum(t.numel() * t.element_size() for t in [*sketches[1:], *raw])
        many = len(sketches) > PENDING_TENSORS or pending >= self.pending
        too_many = bool(sketches) and sketches[0].shape[1] > self.cells
        if many or too_many or (whole and (raw or len(sketches) != 1)):
            scores = _joined(raw, sketches)
            sketch, raised = torch.ops.thfr_ext.merge_cells(sketches, scores, self.cells, share, relative)
            return [sketch], float(raised)
        return sketches + raw, share
