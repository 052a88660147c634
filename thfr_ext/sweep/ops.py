"""The sweep operators: schema, kernels and fake kernels of each.

Lists hold one tensor an image: maps [H,W], masks bool [H,W], regions bool [R,H,W]; saturations are those of
all images' regions in a row. Messages begin with the function called.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from thfr_ext.core.registration import register
from thfr_ext.sweep import cpu, cuda, curve, labels, torch_path
from thfr_ext.sweep.checks import (
    Points,
    Samples,
    Tensors,
    check_auroc,
    check_images,
    check_label_regions,
    check_pro,
    check_spro,
    check_spro_area,
    wide_dtype,
)

_PATHS = {"cpu": cpu, "torch_path": torch_path, "cuda": cuda}


def _new_size() -> Any:
    return torch.library.get_ctx().new_dynamic_size()


def _fake_points(maps: Tensors, *others: Any) -> Points:
    k = _new_size()
    fpr, overlap = (maps[0].new_empty(k, dtype=torch.float64) for _ in range(2))
    return fpr, overlap, maps[0].new_empty(k, dtype=wide_dtype(maps))


def _fake_samples(maps: Tensors, others: Tensors) -> Samples:
    negatives, scores = (maps[0].new_empty(_new_size(), dtype=wide_dtype(maps)) for _ in range(2))
    return negatives, scores, maps[0].new_empty(_new_size(), dtype=torch.int64)


def _fake_labels(masks: Tensor) -> tuple[Tensor, Tensor]:
    return (
        masks.new_empty(masks.shape, dtype=torch.int64),
        masks.new_empty(masks.shape[:1], dtype=torch.int64),
    )


def _named(check: Callable[..., None], name: str) -> Callable[..., None]:
    return lambda *given: check(name, *given)


label_regions = register(
    "label_regions",
    "(Tensor masks) -> (Tensor, Tensor)",
    check=check_label_regions,
    fake=_fake_labels,
    **_PATHS | {"cuda": labels},
)

# What the areas need of some images, for the metrics: component_samples and region_samples.

component_samples = register(
    "component_samples",
    "(Tensor[] maps, Tensor[] masks) -> (Tensor, Tensor, Tensor)",
    check=_named(check_pro, "component_samples"),
    fake=_fake_samples,
    **_PATHS,
)
region_samples = register(
    "region_samples",
    "(Tensor[] maps, Tensor[] regions) -> (Tensor, Tensor, Tensor)",
    check=lambda maps, regions: check_images("region_samples", maps, regions, "regions", 3),
    fake=_fake_samples,
    **_PATHS,
)

au_pro = register(
    "au_pro",
    "(Tensor[] maps, Tensor[] masks, float limit) -> Tensor",
    check=_named(check_pro, "au_pro"),
    fake=lambda maps, masks, limit: maps[0].new_empty((), dtype=torch.float64),
    **_PATHS,
)
pro_curve = register(
    "pro_curve",
    "(Tensor[] maps, Tensor[] masks) -> (Tensor, Tensor, Tensor)",
    check=_named(check_pro, "pro_curve"),
    fake=_fake_points,
    **_PATHS | {"cuda": curve},
)
au_spro = register(
    "au_spro",
    "(Tensor[] maps, Tensor[] regions, Tensor saturations, float[] limits) -> Tensor",
    check=_named(check_spro, "au_spro"),
    fake=lambda maps, regions, saturations, limits: maps[0].new_empty((len(limits),), dtype=torch.float64),
    **_PATHS,
)
spro_curve = register(
    "spro_curve",
    "(Tensor[] maps, Tensor[] regions, Tensor saturations) -> (Tensor, Tensor, Tensor)",
    check=_named(check_spro, "spro_curve"),
    fake=_fake_points,
    **_PATHS | {"cuda": curve},
)


def _fake_areas(
    negatives: Tensor, scores: Tensor, offsets: Tensor, saturations: Tensor, limits: list[float]
) -> Tensor:
    return negatives.new_empty((len(limits),), dtype=torch.float64)


# The areas of au_spro from samples that were taken before.
spro_area = register(
    "spro_area",
    "(Tensor negatives, Tensor region_scores, Tensor region_offsets, Tensor saturations, float[] limits)"
    " -> Tensor",
    check=check_spro_area,
    fake=_fake_areas,
    **_PATHS,
)

auroc = register(
    "auroc",
    "(Tensor scores, Tensor labels) -> Tensor",
    check=_named(check_auroc, "auroc"),
    fake=lambda scores, labels: scores.new_empty((), dtype=torch.float64),
    **_PATHS,
)
