"""The operators of bounded metrics on the CPU: calls of the native module."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from thfr_ext import _C
from thfr_ext.core.tensors import view
from thfr_ext.metrics.checks import BINS


def _native(name: str, call: Callable[..., Any], *arguments: Any) -> Any:
    """Call the native module; what it finds wrong inside of bins, in the operator's words."""
    try:
        return call(*arguments)
    except ValueError as error:
        if str(error).startswith(f"{name}: "):
            raise
        raise ValueError(f"{name}: expected {BINS}, got something else") from error


def merge_bins(
    sketches: Sequence[Tensor], scores: Tensor, most: int, share: float, relative: bool
) -> tuple[Tensor, Tensor]:
    sketches = [sketch.contiguous() for sketch in sketches]
    views = [view(sketch) for sketch in sketches]
    *rows, raised = _native(
        "merge_bins", _C.merge_bins, views, view(scores), most, share, relative, torch.get_num_threads()
    )
    bins = torch.stack([torch.from_numpy(row) for row in rows])
    return bins, torch.tensor(raised, dtype=torch.float64)


def bins_area(negatives: Tensor, positives: Tensor, total: float, limits: Sequence[float]) -> Tensor:
    fpr = torch.tensor(limits, dtype=torch.float64)
    bounds = torch.empty((2, len(limits)), dtype=torch.float64)
    negatives, positives = negatives.contiguous(), positives.contiguous()
    views = view(negatives), view(positives), total, view(fpr), view(bounds.view(-1))
    _native("bins_area", _C.bins_area, *views)
    return bounds
