"""The operators behind the state of :mod:`thfr_ext.metrics`, registered with torch: packed scores and cells.

Formats and methods are told in csrc/include/thfr/metrics.h. ``runs`` are packed scores, uint8 [bytes];
``cells`` int64 [3,n]. On CUDA the plain PyTorch twins run, or, for cells, ``metrics/cuda.py``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from thfr_ext import _C
from thfr_ext.core.registration import register
from thfr_ext.core.tensors import describe, view
from thfr_ext.metrics import cuda, reference
from thfr_ext.sweep.checks import check_limits, require_offsets, require_saturations

Tensors = list[Tensor]


def _check_scores(name: str, scores: Tensor) -> None:
    if scores.dim() != 1:
        raise ValueError(f"{name}: scores: expected shape [n], got {describe(scores)}")
    if scores.dtype not in (torch.float32, torch.float64):
        raise TypeError(f"{name}: scores: expected float32 or float64, got {describe(scores)}")


def _check_runs(name: str, argument: str, runs: Sequence[Tensor]) -> None:
    if not runs:
        raise ValueError(f"{name}: {argument}: expected at least one, got none")
    for run in runs:
        if run.dim() != 1 or run.dtype != torch.uint8 or run.device != runs[0].device:
            raise ValueError(
                f"{name}: {argument}: expected packed scores, uint8 [bytes] on {runs[0].device}, "
                f"got {describe(run)}"
            )


def _check_cells(name: str, argument: str, cells: Tensor) -> None:
    if cells.dim() != 2 or cells.shape[0] != 3 or cells.dtype != torch.int64:
        raise ValueError(f"{name}: {argument}: expected cells, int64 [3,n], got {describe(cells)}")


def _require_numbers(name: str, scores: Tensor) -> None:
    if bool(scores.isnan().any()):
        raise ValueError(f"{name}: scores: expected numbers, got NaN")


def _byte_views(runs: Sequence[Tensor]) -> list[tuple]:
    return [view(run.view(torch.bool)) for run in runs]


def _native(name: str, expected: str, call: Callable[..., Any], *arguments: Any) -> Any:
    """Call the native module; what it finds wrong inside of runs or cells, in the operator's words."""
    try:
        return call(*arguments)
    except ValueError as error:
        if str(error).startswith(f"{name}: "):
            raise
        raise ValueError(f"{name}: expected {expected}, got something else") from error


_RUNS = "bytes as pack_scores makes them"
_CELLS = "cells as merge_cells makes them"


def _new_size() -> Any:
    return torch.library.get_ctx().new_dynamic_size()


# pack_scores, merge_packed


def _pack_scores_cpu(scores: Tensor) -> Tensor:
    _check_scores("pack_scores", scores)
    return torch.from_numpy(_C.pack_scores(view(scores), torch.get_num_threads()))


def _pack_scores_reference(scores: Tensor) -> Tensor:
    _check_scores("pack_scores", scores)
    _require_numbers("pack_scores", scores)
    return reference.pack_scores(scores)


def _pack_scores_fake(scores: Tensor) -> Tensor:
    _check_scores("pack_scores", scores)
    return scores.new_empty(_new_size(), dtype=torch.uint8)


register(
    "pack_scores",
    "(Tensor scores) -> Tensor",
    cpu=_pack_scores_cpu,
    cuda_reference=_pack_scores_reference,
    fake=_pack_scores_fake,
)


def _merge_packed_cpu(runs: Tensors) -> Tensor:
    _check_runs("merge_packed", "runs", runs)
    runs = [run.contiguous() for run in runs]
    return torch.from_numpy(_native("merge_packed", _RUNS, _C.merge_packed, _byte_views(runs)))


def _merge_packed_reference(runs: Tensors) -> Tensor:
    _check_runs("merge_packed", "runs", runs)
    return reference.merge_packed(runs)


def _merge_packed_fake(runs: Tensors) -> Tensor:
    _check_runs("merge_packed", "runs", runs)
    return runs[0].new_empty(_new_size())


register(
    "merge_packed",
    "(Tensor[] runs) -> Tensor",
    cpu=_merge_packed_cpu,
    cuda_reference=_merge_packed_reference,
    fake=_merge_packed_fake,
)

# packed_area, packed_auroc


def _packed_area_fake(
    negatives: Tensors, scores: Tensor, offsets: Tensor, saturations: Tensor, limits: Sequence[float]
) -> Tensor:
    _check_runs("packed_area", "negatives", negatives)
    _check_scores("packed_area", scores)
    for argument, tensor in {"region_offsets": offsets, "saturations": saturations}.items():
        if tensor.dim() != 1 or tensor.dtype != torch.int64:
            raise ValueError(f"packed_area: {argument}: expected int64 [R], got {describe(tensor)}")
    if saturations.shape[0] < 1 or offsets.shape[0] != saturations.shape[0] + 1:
        raise ValueError(
            f"packed_area: saturations: expected [R] for region_offsets [R+1], R >= 1, "
            f"got {describe(saturations)} for {describe(offsets)}"
        )
    check_limits("packed_area", "limits", limits)
    return scores.new_empty((len(limits),), dtype=torch.float64)


def _checked_area(kernel: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """``kernel`` behind all checks of packed_area."""

    def packed_area(
        negatives: Tensors, scores: Tensor, offsets: Tensor, saturations: Tensor, limits: Sequence[float]
    ) -> Tensor:
        _packed_area_fake(negatives, scores, offsets, saturations, limits)
        require_offsets("packed_area", scores, offsets)
        require_saturations("packed_area", saturations)
        _require_numbers("packed_area", scores)
        return kernel(negatives, scores, offsets, saturations, limits)

    return packed_area


def _packed_area_native(
    negatives: Tensors, scores: Tensor, offsets: Tensor, saturations: Tensor, limits: Sequence[float]
) -> Tensor:
    runs = [run.contiguous() for run in negatives]
    scores, offsets, saturations = (t.contiguous() for t in (scores, offsets, saturations))
    bounds = torch.tensor(limits, dtype=torch.float64)
    areas = torch.empty_like(bounds)
    views = [view(t) for t in (scores, offsets, saturations, bounds, areas)]
    count = _native("packed_area", _RUNS, _C.packed_area, _byte_views(runs), *views, torch.get_num_threads())
    if count == 0:
        raise ValueError("packed_area: negatives: expected at least one score, got none")
    return areas


register(
    "packed_area",
    "(Tensor[] negatives, Tensor region_scores, Tensor region_offsets, Tensor saturations, float[] limits)"
    " -> Tensor",
    cpu=_checked_area(_packed_area_native),
    cuda_reference=_checked_area(reference.packed_area),
    fake=_packed_area_fake,
)


def _packed_auroc_fake(negatives: Tensors, positives: Tensors) -> Tensor:
    _check_runs("packed_auroc", "negatives", negatives)
    _check_runs("packed_auroc", "positives", positives)
    return negatives[0].new_empty((), dtype=torch.float64)


def _checked_auroc(kernel: Callable[..., Tensor]) -> Callable[..., Tensor]:
    def packed_auroc(negatives: Tensors, positives: Tensors) -> Tensor:
        _packed_auroc_fake(negatives, positives)
        area = kernel(negatives, positives)
        if bool(area.isnan()):
            raise ValueError("packed_auroc: expected negatives and positives, got one class only")
        return area

    return packed_auroc


def _packed_auroc_native(negatives: Tensors, positives: Tensors) -> Tensor:
    below, above = ([run.contiguous() for run in runs] for runs in (negatives, positives))
    area = _native("packed_auroc", _RUNS, _C.packed_auroc, _byte_views(below), _byte_views(above))
    return torch.tensor(area, dtype=torch.float64)


register(
    "packed_auroc",
    "(Tensor[] negatives, Tensor[] positives) -> Tensor",
    cpu=_checked_auroc(_packed_auroc_native),
    cuda_reference=_checked_auroc(reference.packed_auroc),
    fake=_packed_auroc_fake,
)

# merge_cells, cells_area


def _merge_cells_fake(
    sketches: Tensors, scores: Tensor, most: int, share: float, relative: bool
) -> tuple[Tensor, Tensor]:
    _check_scores("merge_cells", scores)
    for sketch in sketches:
        _check_cells("merge_cells", "sketches", sketch)
    if most < 16 or not share >= 0:
        raise ValueError(f"merge_cells: expected most >= 16 and share >= 0, got {most} and {share}")
    cells = scores.new_empty((3, _new_size()), dtype=torch.int64)
    return cells, scores.new_empty((), dtype=torch.float64)


def _checked_cells(kernel: Callable[..., tuple[Tensor, float]]) -> Callable[..., tuple[Tensor, Tensor]]:
    def merge_cells(
        sketches: Tensors, scores: Tensor, most: int, share: float, relative: bool
    ) -> tuple[Tensor, Tensor]:
        _check_scores("merge_cells", scores)
        for sketch in sketches:
            _check_cells("merge_cells", "sketches", sketch)
        if most < 16 or not share >= 0:
            raise ValueError(f"merge_cells: expected most >= 16 and share >= 0, got {most} and {share}")
        cells, raised = kernel(sketches, scores, most, share, relative)
        return cells, torch.tensor(raised, dtype=torch.float64, device=scores.device)

    return merge_cells


def _merge_cells_native(
    sketches: Tensors, scores: Tensor, most: int, share: float, relative: bool
) -> tuple[Tensor, float]:
    sketches = [sketch.contiguous() for sketch in sketches]
    *rows, raised = _native(
        "merge_cells",
        _CELLS,
        _C.merge_cells,
        [view(s) for s in sketches],
        view(scores),
        most,
        share,
        relative,
        torch.get_num_threads(),
    )
    return torch.stack([torch.from_numpy(row) for row in rows]), raised


def _merge_cells_reference(
    sketches: Tensors, scores: Tensor, most: int, share: float, relative: bool
) -> tuple[Tensor, float]:
    _require_numbers("merge_cells", scores)
    return reference.merge_cells(sketches, scores, most, share, relative)


def _merge_cells_cuda(
    sketches: Tensors, scores: Tensor, most: int, share: float, relative: bool
) -> tuple[Tensor, float]:
    nan, bad = cuda.look(sketches, scores)
    if nan:
        _require_numbers("merge_cells", scores)
    if bad:
        raise ValueError(f"merge_cells: expected {_CELLS}, got something else")
    return cuda.merge_cells(sketches, scores, most, share, relative)


register(
    "merge_cells",
    "(Tensor[] sketches, Tensor scores, int most, float share, bool relative) -> (Tensor, Tensor)",
    cpu=_checked_cells(_merge_cells_native),
    cuda_reference=_checked_cells(_merge_cells_reference),
    fake=_merge_cells_fake,
    cuda_native=_checked_cells(_merge_cells_cuda),
)


def _cells_area_fake(negatives: Tensor, positives: Tensor, total: float, limits: Sequence[float]) -> Tensor:
    _check_cells("cells_area", "negatives", negatives)
    _check_cells("cells_area", "positives", positives)
    check_limits("cells_area", "limits", limits)
    return negatives.new_empty((2, len(limits)), dtype=torch.float64)


def _cells_area_cpu(negatives: Tensor, positives: Tensor, total: float, limits: Sequence[float]) -> Tensor:
    bounds = _cells_area_fake(negatives, positives, total, limits)
    fpr = torch.tensor(limits, dtype=torch.float64)
    negatives, positives = negatives.contiguous(), positives.contiguous()
    views = view(negatives), view(positives), total, view(fpr), view(bounds.view(-1))
    _native("cells_area", _CELLS, _C.cells_area, *views)
    return bounds


def _cells_area_reference(
    negatives: Tensor, positives: Tensor, total: float, limits: Sequence[float]
) -> Tensor:
    _cells_area_fake(negatives, positives, total, limits)
    return reference.cells_area(negatives, positives, total, limits)


register(
    "cells_area",
    "(Tensor negatives, Tensor positives, float total, float[] limits) -> Tensor",
    cpu=_cells_area_cpu,
    cuda_reference=_cells_area_reference,
    fake=_cells_area_fake,
)
