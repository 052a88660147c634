"""The operators behind :mod:`thfr_ext.sweep` and :mod:`thfr_ext.metrics`, registered with torch.

Lists hold one tensor an image: maps [H,W], masks bool [H,W], regions bool [R,H,W]; saturations are those of
all images' regions in a row. Messages begin with the function called.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from thfr_ext import _C
from thfr_ext.core.registration import register
from thfr_ext.core.tensors import view
from thfr_ext.sweep import cpu as native
from thfr_ext.sweep import cuda, curve, labels, reference
from thfr_ext.sweep.checks import (
    check_auroc,
    check_images,
    check_label_regions,
    check_pro,
    check_spro,
    check_spro_area,
    raise_nan,
    require_classes,
    require_negatives,
    require_offsets,
    require_regions,
    require_samples,
    require_saturations,
)
from thfr_ext.sweep.cpu import Points, Samples, wide_dtype

Tensors = list[Tensor]


def _new_size() -> Any:
    return torch.library.get_ctx().new_dynamic_size()


def _fake_points(maps: Tensors) -> Points:
    k = _new_size()
    fpr, overlap = (maps[0].new_empty(k, dtype=torch.float64) for _ in range(2))
    return fpr, overlap, maps[0].new_empty(k, dtype=wide_dtype(maps))


def _fake_samples(maps: Tensors) -> Samples:
    negatives, scores = (maps[0].new_empty(_new_size(), dtype=wide_dtype(maps)) for _ in range(2))
    return negatives, scores, maps[0].new_empty(_new_size(), dtype=torch.int64)


# label_regions


def _label_regions_fake(masks: Tensor) -> tuple[Tensor, Tensor]:
    check_label_regions(masks)
    return masks.new_empty(masks.shape, dtype=torch.int64), masks.new_empty(
        masks.shape[:1], dtype=torch.int64
    )


def _label_regions_cpu(masks: Tensor) -> tuple[Tensor, Tensor]:
    labels, counts = _label_regions_fake(masks)
    _C.label_regions(view(masks), view(labels), view(counts), torch.get_num_threads())
    return labels, counts


def _label_regions_reference(masks: Tensor) -> tuple[Tensor, Tensor]:
    check_label_regions(masks)
    return reference.label_regions(masks)


register(
    "label_regions",
    "(Tensor masks) -> (Tensor, Tensor)",
    cpu=_label_regions_cpu,
    cuda_reference=_label_regions_reference,
    fake=_label_regions_fake,
    cuda_native=labels.label_regions,
)

# component_samples, region_samples: what the areas need of some images


def _component_samples_cpu(maps: Tensors, masks: Tensors) -> Samples:
    check_pro("component_samples", maps, masks)
    return native.samples(
        "component_samples", maps, masks, native.component_scores("component_samples", maps, masks)
    )


def _components(mask: Tensor) -> Tensor:  # [H,W] bool -> [R,H,W] bool
    labels, counts = reference.label_regions(mask.unsqueeze(0))
    return labels == torch.arange(1, int(counts[0]) + 1, device=mask.device).reshape(-1, 1, 1)


def _reference_samples(name: str, maps: Tensors, regions: Tensors) -> Samples:
    negatives, scores, offsets = reference.sample_regions(maps, regions)
    if bool(negatives.isnan().any()) or bool(scores.isnan().any()):
        raise_nan(name, "maps", maps)
    if bool((offsets.diff() == 0).any()):
        require_samples(name, regions)
    return negatives, scores, offsets


def _component_samples_reference(maps: Tensors, masks: Tensors) -> Samples:
    check_pro("component_samples", maps, masks)
    return _reference_samples("component_samples", maps, [_components(m) for m in masks])


def _component_samples_fake(maps: Tensors, masks: Tensors) -> Samples:
    check_pro("component_samples", maps, masks)
    return _fake_samples(maps)


register(
    "component_samples",
    "(Tensor[] maps, Tensor[] masks) -> (Tensor, Tensor, Tensor)",
    cpu=_component_samples_cpu,
    cuda_reference=_component_samples_reference,
    fake=_component_samples_fake,
    cuda_native=cuda.component_samples,
)


def _region_samples_cpu(maps: Tensors, regions: Tensors) -> Samples:
    check_images("region_samples", maps, regions, "regions", 3)
    scores, offsets, covered = native.region_scores("region_samples", maps, regions)
    return native.samples("region_samples", maps, covered, (scores, offsets))


def _region_samples_reference(maps: Tensors, regions: Tensors) -> Samples:
    check_images("region_samples", maps, regions, "regions", 3)
    return _reference_samples("region_samples", maps, regions)


def _region_samples_fake(maps: Tensors, regions: Tensors) -> Samples:
    check_images("region_samples", maps, regions, "regions", 3)
    return _fake_samples(maps)


register(
    "region_samples",
    "(Tensor[] maps, Tensor[] regions) -> (Tensor, Tensor, Tensor)",
    cpu=_region_samples_cpu,
    cuda_reference=_region_samples_reference,
    fake=_region_samples_fake,
    cuda_native=cuda.region_samples,
)

# au_pro, pro_curve


def _pro_cpu(name: str, maps: Tensors, masks: Tensors) -> tuple[Tensor, Tensor, Tensor]:
    scores, offsets = native.component_scores(name, maps, masks)
    require_regions(name, "masks", len(offsets) - 1, len(maps))
    return scores, offsets, offsets.diff()


def _pro_reference(name: str, maps: Tensors, masks: Tensors) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    negatives, scores, offsets = _reference_samples(name, maps, [_components(m) for m in masks])
    require_regions(name, "masks", len(offsets) - 1, len(maps))
    require_negatives(name, "masks", len(negatives))
    return negatives, scores, offsets, offsets.diff()


def _au_pro_cpu(maps: Tensors, masks: Tensors, limit: float) -> Tensor:
    check_pro("au_pro", maps, masks, limit)
    return native.area("au_pro", "masks", maps, masks, *_pro_cpu("au_pro", maps, masks), [limit])[0]


def _au_pro_reference(maps: Tensors, masks: Tensors, limit: float) -> Tensor:
    check_pro("au_pro", maps, masks, limit)
    return reference.spro_area(*_pro_reference("au_pro", maps, masks), [limit])[0]


def _au_pro_fake(maps: Tensors, masks: Tensors, limit: float) -> Tensor:
    check_pro("au_pro", maps, masks, limit)
    return maps[0].new_empty((), dtype=torch.float64)


register(
    "au_pro",
    "(Tensor[] maps, Tensor[] masks, float limit) -> Tensor",
    cpu=_au_pro_cpu,
    cuda_reference=_au_pro_reference,
    fake=_au_pro_fake,
    cuda_native=cuda.au_pro,
)


def _pro_curve_cpu(maps: Tensors, masks: Tensors) -> Points:
    check_pro("pro_curve", maps, masks)
    return native.curve("pro_curve", "masks", maps, masks, *_pro_cpu("pro_curve", maps, masks))


def _pro_curve_reference(maps: Tensors, masks: Tensors) -> Points:
    check_pro("pro_curve", maps, masks)
    return reference.spro_curve(*_pro_reference("pro_curve", maps, masks))


def _pro_curve_fake(maps: Tensors, masks: Tensors) -> Points:
    check_pro("pro_curve", maps, masks)
    return _fake_points(maps)


register(
    "pro_curve",
    "(Tensor[] maps, Tensor[] masks) -> (Tensor, Tensor, Tensor)",
    cpu=_pro_curve_cpu,
    cuda_reference=_pro_curve_reference,
    fake=_pro_curve_fake,
    cuda_native=curve.pro_curve,
)

# au_spro, spro_curve


def _spro_cpu(
    name: str, maps: Tensors, regions: Tensors, saturations: Tensor
) -> tuple[Tensors, Tensor, Tensor, Tensor]:
    require_regions(name, "regions", len(saturations), len(maps))
    require_saturations(name, saturations)
    scores, offsets, covered = native.region_scores(name, maps, regions)
    return covered, scores, offsets, saturations.contiguous()


def _spro_reference(
    name: str, maps: Tensors, regions: Tensors, saturations: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    require_regions(name, "regions", len(saturations), len(maps))
    require_saturations(name, saturations)
    negatives, scores, offsets = _reference_samples(name, maps, regions)
    require_negatives(name, "regions", len(negatives))
    return negatives, scores, offsets, saturations


def _au_spro_cpu(maps: Tensors, regions: Tensors, saturations: Tensor, limits: Sequence[float]) -> Tensor:
    check_spro("au_spro", maps, regions, saturations, limits)
    return native.area("au_spro", "regions", maps, *_spro_cpu("au_spro", maps, regions, saturations), limits)


def _au_spro_reference(
    maps: Tensors, regions: Tensors, saturations: Tensor, limits: Sequence[float]
) -> Tensor:
    check_spro("au_spro", maps, regions, saturations, limits)
    return reference.spro_area(*_spro_reference("au_spro", maps, regions, saturations), limits)


def _au_spro_fake(maps: Tensors, regions: Tensors, saturations: Tensor, limits: Sequence[float]) -> Tensor:
    check_spro("au_spro", maps, regions, saturations, limits)
    return maps[0].new_empty((len(limits),), dtype=torch.float64)


register(
    "au_spro",
    "(Tensor[] maps, Tensor[] regions, Tensor saturations, float[] limits) -> Tensor",
    cpu=_au_spro_cpu,
    cuda_reference=_au_spro_reference,
    fake=_au_spro_fake,
    cuda_native=cuda.au_spro,
)


def _spro_curve_cpu(maps: Tensors, regions: Tensors, saturations: Tensor) -> Points:
    check_spro("spro_curve", maps, regions, saturations)
    return native.curve("spro_curve", "regions", maps, *_spro_cpu("spro_curve", maps, regions, saturations))


def _spro_curve_reference(maps: Tensors, regions: Tensors, saturations: Tensor) -> Points:
    check_spro("spro_curve", maps, regions, saturations)
    return reference.spro_curve(*_spro_reference("spro_curve", maps, regions, saturations))


def _spro_curve_fake(maps: Tensors, regions: Tensors, saturations: Tensor) -> Points:
    check_spro("spro_curve", maps, regions, saturations)
    return _fake_points(maps)


register(
    "spro_curve",
    "(Tensor[] maps, Tensor[] regions, Tensor saturations) -> (Tensor, Tensor, Tensor)",
    cpu=_spro_curve_cpu,
    cuda_reference=_spro_curve_reference,
    fake=_spro_curve_fake,
    cuda_native=curve.spro_curve,
)

# spro_area: the same areas from samples that were taken before


def _checked(kernel: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """``kernel`` behind all checks of spro_area."""

    def spro_area(
        negatives: Tensor, scores: Tensor, offsets: Tensor, saturations: Tensor, limits: Sequence[float]
    ) -> Tensor:
        check_spro_area(negatives, scores, offsets, saturations, limits)
        require_negatives("spro_area", "negatives", len(negatives))
        require_offsets("spro_area", scores, offsets)
        require_saturations("spro_area", saturations)
        for argument, tensor in {"negatives": negatives, "region_scores": scores}.items():
            if bool(tensor.isnan().any()):
                raise ValueError(f"spro_area: {argument}: expected numbers, got NaN")
        return kernel(negatives, scores, offsets, saturations, limits)

    return spro_area


def _spro_area_native(
    negatives: Tensor, scores: Tensor, offsets: Tensor, saturations: Tensor, limits: Sequence[float]
) -> Tensor:
    maps = [negatives.unsqueeze(0)]
    scores, offsets, saturations = (t.contiguous() for t in (scores, offsets, saturations))
    return native.area("spro_area", "negatives", maps, [], scores, offsets, saturations, limits)


def _spro_area_fake(
    negatives: Tensor, scores: Tensor, offsets: Tensor, saturations: Tensor, limits: Sequence[float]
) -> Tensor:
    check_spro_area(negatives, scores, offsets, saturations, limits)
    return negatives.new_empty((len(limits),), dtype=torch.float64)


register(
    "spro_area",
    "(Tensor negatives, Tensor region_scores, Tensor region_offsets, Tensor saturations, float[] limits)"
    " -> Tensor",
    cpu=_checked(_spro_area_native),
    cuda_reference=_checked(reference.spro_area),
    fake=_spro_area_fake,
    cuda_native=cuda.spro_area,
)

# auroc


def _auroc_cpu(scores: Tensor, labels: Tensor) -> Tensor:
    check_auroc("auroc", scores, labels)
    flat, marks = scores.reshape(-1), labels.reshape(-1)
    (nan, negatives), area = _C.auroc(view(flat), view(marks), torch.get_num_threads())
    require_classes(len(flat), len(flat) - negatives)
    if nan >= 0:
        raise_nan("auroc", "scores", [scores])
    return torch.tensor(area, dtype=torch.float64)


def _auroc_reference(scores: Tensor, labels: Tensor) -> Tensor:
    check_auroc("auroc", scores, labels)
    require_classes(labels.numel(), int(labels.count_nonzero()))
    if bool(scores.isnan().any()):
        raise_nan("auroc", "scores", [scores])
    return reference.auroc(scores.reshape(-1), labels.reshape(-1))


def _auroc_fake(scores: Tensor, labels: Tensor) -> Tensor:
    check_auroc("auroc", scores, labels)
    return scores.new_empty((), dtype=torch.float64)


register(
    "auroc",
    "(Tensor scores, Tensor labels) -> Tensor",
    cpu=_auroc_cpu,
    cuda_reference=_auroc_reference,
    fake=_auroc_fake,
    cuda_native=cuda.auroc,
)
