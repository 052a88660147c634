"""The operators of bounded metrics: schema, kernels and fake kernels of each.

Bins are int64 [3,n]; csrc/include/thfr/metrics.h says what they hold.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from thfr_ext.core.registration import register
from thfr_ext.metrics import cpu, reference, torch_path
from thfr_ext.metrics.checks import check_bins_area, check_merge_bins


def _merge_fake(sketches: list[Tensor], scores: Tensor, *options: Any) -> tuple[Tensor, Tensor]:
    bins = scores.new_empty((3, torch.library.get_ctx().new_dynamic_size()), dtype=torch.int64)
    return bins, scores.new_empty((), dtype=torch.float64)


merge_bins = register(
    "merge_bins",
    "(Tensor[] sketches, Tensor scores, int most, float share, bool relative) -> (Tensor, Tensor)",
    check=check_merge_bins,
    cpu=cpu.merge_bins,
    reference=reference.merge_bins,
    torch_path=torch_path.merge_bins,
    fake=_merge_fake,
)


def _area_fake(negatives: Tensor, positives: Tensor, total: float, limits: list[float]) -> Tensor:
    return negatives.new_empty((2, len(limits)), dtype=torch.float64)


bins_area = register(
    "bins_area",
    "(Tensor negatives, Tensor positives, float total, float[] limits) -> Tensor",
    check=check_bins_area,
    cpu=cpu.bins_area,
    reference=reference.bins_area,
    torch_path=torch_path.bins_area,
    fake=_area_fake,
)
