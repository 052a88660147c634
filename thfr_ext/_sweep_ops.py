"""The operators behind :mod:`thfr_ext.sweep`: checks, native calls and registration.

``name`` is the public function on whose behalf an operator is called: messages begin with it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from thfr_ext import _C, reference
from thfr_ext._library import register
from thfr_ext._sweep_checks import (
    check_images,
    check_limits,
    check_samples,
    raise_nan,
    require_negatives,
    require_offsets,
    require_regions,
    require_saturations,
)
from thfr_ext._tensor import describe, require_float, require_shape, view

#: negatives [n], scores of the regions' pixels [p], offsets of the regions [R+1] int64
Samples = tuple[Tensor, Tensor, Tensor]
Points = tuple[Tensor, Tensor, Tensor]  # fpr, overlap, thresholds


# --- native --------------------------------------------------------------------------------------------------------------


def _wide(tensors: Sequence[Tensor]) -> torch.dtype:
    """The dtype that holds every score exactly."""
    return torch.float64 if any(t.dtype == torch.float64 for t in tensors) else torch.float32


def _views(tensors: Sequence[Tensor]) -> list[tuple]:
    return [view(t) for t in tensors]


def _native_components(name: str, maps: list[Tensor], masks: list[Tensor]) -> tuple[Tensor, Tensor]:
    """Scores of the 8-connected regions' pixels, and the offsets of the regions."""
    pixels = sum(int(m.count_nonzero()) for m in masks)
    regions = min(pixels, sum(-(-m.shape[0] // 2) * -(-m.shape[1] // 2) for m in masks))
    scores, offsets = torch.empty(pixels, dtype=_wide(maps)), torch.empty(regions + 1, dtype=torch.int64)
    found = _C.component_scores(
        _views(maps), _views(masks), view(scores), view(offsets), torch.get_num_threads()
    )
    if found < 0:
        raise RuntimeError(f"{name}: masks: changed while being read")
    require_regions(name, "masks", found, len(maps))
    if bool(scores.isnan().any()):
        raise_nan(name, "maps", maps)
    return scores, offsets[: found + 1].clone()


def _region_areas(name: str, regions: list[Tensor]) -> Tensor:
    areas = []
    for i, stack in enumerate(regions):
        area = torch.empty(stack.shape[0], dtype=torch.int64)
        _C.region_areas(view(stack), view(area), torch.get_num_threads())
        if bool((area == 0).any()):
            raise ValueError(
                f"{name}: regions: image {i}: expected a pixel in every region, got none in region {int(area.argmin())}"
            )
        areas.append(area)
    return torch.cat(areas)


def _native_regions(
    name: str, maps: list[Tensor], regions: list[Tensor]
) -> tuple[Tensor, Tensor, list[Tensor]]:
    """Scores of the regions' pixels, the offsets of the regions, and for each image the pixels in any region."""
    areas = _region_areas(name, regions)
    require_regions(name, "regions", len(areas), len(maps))
    offsets = torch.nn.functional.pad(areas.cumsum(0), (1, 0))
    scores = torch.empty(int(offsets[-1]), dtype=_wide(maps))
    covered = [torch.empty(m.shape, dtype=torch.bool) for m in maps]
    _C.region_scores(
        _views(maps), _views(regions), view(offsets), view(scores), _views(covered), torch.get_num_threads()
    )
    if bool(scores.isnan().any()):
        raise_nan(name, "maps", maps)
    return scores, offsets, covered


def _native_area(
    name: str,
    argument: str,
    maps: list[Tensor],
    covered: list[Tensor],
    scores: Tensor,
    offsets: Tensor,
    saturations: Tensor,
    limits: Sequence[float],
) -> Tensor:
    bounds = torch.tensor(limits, dtype=torch.float64)
    areas = torch.empty_like(bounds)
    nan_image, negatives = _C.spro_area(
        _views(maps), _views(covered), view(scores), view(offsets), view(saturations), view(bounds), view(areas),
        torch.get_num_threads(),
    )  # fmt: skip
    if nan_image >= 0:
        raise_nan(name, "maps", maps)
    require_negatives(name, argument, negatives)
    return areas


def _native_curve(
    name: str,
    argument: str,
    maps: list[Tensor],
    covered: list[Tensor],
    scores: Tensor,
    offsets: Tensor,
    saturations: Tensor,
) -> Points:
    (nan_image, negatives), *points = _C.spro_curve(
        _views(maps), _views(covered), view(scores), view(offsets), view(saturations), torch.get_num_threads()
    )
    if nan_image >= 0:
        raise_nan(name, "maps", maps)
    require_negatives(name, argument, negatives)
    fpr, overlap, thresholds = (torch.from_numpy(p) for p in points)
    return fpr, overlap, thresholds.to(_wide(maps))


# --- operators -----------------------------------------------------------------------------------------------------------


def _new_size() -> int:
    return torch.library.get_ctx().new_dynamic_size()  # type: ignore[return-value]


def _fake_samples(maps: list[Tensor]) -> Samples:
    n, p, r = (_new_size() for _ in range(3))
    negatives, scores = (maps[0].new_empty(size, dtype=_wide(maps)) for size in (n, p))
    return negatives, scores, maps[0].new_empty(r, dtype=torch.int64)


def _fake_points(maps: list[Tensor]) -> Points:
    k = _new_size()
    fpr, overlap = (maps[0].new_empty(k, dtype=torch.float64) for _ in range(2))
    return fpr, overlap, maps[0].new_empty(k, dtype=_wide(maps))


def _check_label_regions(masks: Tensor) -> None:
    require_shape("label_regions", "masks", masks, "[N,H,W]", dims=3)
    if masks.dtype != torch.bool:
        raise TypeError(f"label_regions: masks: expected bool, got {describe(masks)}")


def _label_regions_cpu(masks: Tensor) -> tuple[Tensor, Tensor]:
    labels, counts = _label_regions_fake(masks)
    _C.label_regions(view(masks), view(labels), view(counts), torch.get_num_threads())
    return labels, counts


def _label_regions_cuda(masks: Tensor) -> tuple[Tensor, Tensor]:
    _check_label_regions(masks)
    return reference.label_regions(masks)


def _label_regions_fake(masks: Tensor) -> tuple[Tensor, Tensor]:
    _check_label_regions(masks)
    return masks.new_empty(masks.shape, dtype=torch.int64), masks.new_empty(
        masks.shape[:1], dtype=torch.int64
    )


def _components(mask: Tensor) -> Tensor:  # [H,W] bool -> [R,H,W] bool
    labels, counts = torch.ops.thfr_ext.label_regions(mask.unsqueeze(0))
    return labels == torch.arange(1, int(counts[0]) + 1, device=mask.device).reshape(-1, 1, 1)


def _reference_samples(name: str, maps: list[Tensor], regions: list[Tensor], argument: str) -> Samples:
    require_regions(name, argument, sum(r.shape[0] for r in regions), len(maps))
    negatives, scores, offsets = reference.sample_regions(maps, regions)
    if bool(negatives.isnan().any()) or bool(scores.isnan().any()):
        raise_nan(name, "maps", maps)
    if bool((offsets.diff() == 0).any()):
        image = next(i for i, r in enumerate(regions) if not bool(r.flatten(1).any(1).all()))
        raise ValueError(
            f"{name}: {argument}: image {image}: expected a pixel in every region, got a region of none"
        )
    require_negatives(name, argument, len(negatives))
    return negatives, scores, offsets


def _check_pro(name: str, maps: list[Tensor], masks: list[Tensor], limits: Sequence[float] | None) -> None:
    check_images(name, maps, masks, "masks", 2)
    if limits is not None:
        check_limits(name, "limit", limits)


def _check_spro(
    name: str, maps: list[Tensor], regions: list[Tensor], saturations: Tensor, limits: Sequence[float] | None
) -> None:
    check_images(name, maps, regions, "regions", 3)
    count = sum(r.shape[0] for r in regions)
    if saturations.dim() != 1 or saturations.shape[0] != count or saturations.device != maps[0].device:
        raise ValueError(
            f"{name}: saturations: expected [{count}] on {maps[0].device}, one for each region, "
            f"got {describe(saturations)}"
        )
    if saturations.dtype != torch.int64:
        raise TypeError(f"{name}: saturations: expected int64, got {describe(saturations)}")
    if limits is not None:
        check_limits(name, "limits", limits)


def _au_pro_cpu(maps: list[Tensor], masks: list[Tensor], limit: float) -> Tensor:
    _check_pro("au_pro", maps, masks, [limit])
    scores, offsets = _native_components("au_pro", maps, masks)
    return _native_area("au_pro", "masks", maps, masks, scores, offsets, offsets.diff(), [limit])[0]


def _au_pro_cuda(maps: list[Tensor], masks: list[Tensor], limit: float) -> Tensor:
    _check_pro("au_pro", maps, masks, [limit])
    samples = _reference_samples("au_pro", maps, [_components(m) for m in masks], "masks")
    return reference.spro_area(*samples, samples[2].diff(), [limit])[0]


def _au_pro_fake(maps: list[Tensor], masks: list[Tensor], limit: float) -> Tensor:
    _check_pro("au_pro", maps, masks, [limit])
    return maps[0].new_empty((), dtype=torch.float64)


def _au_spro_cpu(
    maps: list[Tensor], regions: list[Tensor], saturations: Tensor, limits: Sequence[float]
) -> Tensor:
    _check_spro("au_spro", maps, regions, saturations, limits)
    require_saturations("au_spro", saturations)
    scores, offsets, covered = _native_regions("au_spro", maps, regions)
    return _native_area(
        "au_spro", "regions", maps, covered, scores, offsets, saturations.contiguous(), limits
    )


def _au_spro_cuda(
    maps: list[Tensor], regions: list[Tensor], saturations: Tensor, limits: Sequence[float]
) -> Tensor:
    _check_spro("au_spro", maps, regions, saturations, limits)
    require_saturations("au_spro", saturations)
    samples = _reference_samples("au_spro", maps, regions, "regions")
    return reference.spro_area(*samples, saturations, list(limits))


def _au_spro_fake(
    maps: list[Tensor], regions: list[Tensor], saturations: Tensor, limits: Sequence[float]
) -> Tensor:
    _check_spro("au_spro", maps, regions, saturations, limits)
    return maps[0].new_empty((len(limits),), dtype=torch.float64)


def _pro_curve_cpu(maps: list[Tensor], masks: list[Tensor]) -> Points:
    _check_pro("pro_curve", maps, masks, None)
    scores, offsets = _native_components("pro_curve", maps, masks)
    return _native_curve("pro_curve", "masks", maps, masks, scores, offsets, offsets.diff())


def _pro_curve_cuda(maps: list[Tensor], masks: list[Tensor]) -> Points:
    _check_pro("pro_curve", maps, masks, None)
    samples = _reference_samples("pro_curve", maps, [_components(m) for m in masks], "masks")
    return reference.spro_curve(*samples, samples[2].diff())


def _pro_curve_fake(maps: list[Tensor], masks: list[Tensor]) -> Points:
    _check_pro("pro_curve", maps, masks, None)
    return _fake_points(maps)


def _spro_curve_cpu(maps: list[Tensor], regions: list[Tensor], saturations: Tensor) -> Points:
    _check_spro("spro_curve", maps, regions, saturations, None)
    require_saturations("spro_curve", saturations)
    scores, offsets, covered = _native_regions("spro_curve", maps, regions)
    return _native_curve("spro_curve", "regions", maps, covered, scores, offsets, saturations.contiguous())


def _spro_curve_cuda(maps: list[Tensor], regions: list[Tensor], saturations: Tensor) -> Points:
    _check_spro("spro_curve", maps, regions, saturations, None)
    require_saturations("spro_curve", saturations)
    return reference.spro_curve(*_reference_samples("spro_curve", maps, regions, "regions"), saturations)


def _spro_curve_fake(maps: list[Tensor], regions: list[Tensor], saturations: Tensor) -> Points:
    _check_spro("spro_curve", maps, regions, saturations, None)
    return _fake_points(maps)


def _check_spro_area(
    negatives: Tensor, scores: Tensor, offsets: Tensor, saturations: Tensor, limits: Sequence[float]
) -> None:
    check_samples("spro_area", negatives, scores, offsets, saturations)
    check_limits("spro_area", "limits", limits)


def _with_data(kernel: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """``kernel`` after the checks of spro_area that need data."""

    def checked(
        negatives: Tensor, scores: Tensor, offsets: Tensor, saturations: Tensor, limits: Sequence[float]
    ) -> Tensor:
        _check_spro_area(negatives, scores, offsets, saturations, limits)
        require_regions("spro_area", "saturations", saturations.shape[0], 1)
        require_negatives("spro_area", "negatives", negatives.shape[0])
        require_offsets("spro_area", scores, offsets)
        require_saturations("spro_area", saturations)
        for argument, tensor in {"negatives": negatives, "region_scores": scores}.items():
            if bool(tensor.isnan().any()):
                raise ValueError(f"spro_area: {argument}: expected numbers, got NaN")
        return kernel(negatives, scores, offsets, saturations, list(limits))

    return checked


def _spro_area_native(
    negatives: Tensor, scores: Tensor, offsets: Tensor, saturations: Tensor, limits: Sequence[float]
) -> Tensor:
    parts = [t.contiguous() for t in (scores, offsets, saturations)]
    return _native_area("spro_area", "negatives", [negatives.unsqueeze(0)], [], *parts, limits)


def _spro_area_fake(
    negatives: Tensor, scores: Tensor, offsets: Tensor, saturations: Tensor, limits: Sequence[float]
) -> Tensor:
    _check_spro_area(negatives, scores, offsets, saturations, limits)
    return negatives.new_empty((len(limits),), dtype=torch.float64)


def _check_auroc(scores: Tensor, labels: Tensor) -> None:
    require_float("auroc", "scores", scores)
    if labels.shape != scores.shape or labels.device != scores.device:
        raise ValueError(
            f"auroc: labels: expected shape and device of scores ({describe(scores)}), got {describe(labels)}"
        )
    if labels.dtype != torch.bool:
        raise TypeError(f"auroc: labels: expected bool, got {describe(labels)}")


def _require_classes(labels: int, positives: int) -> None:
    if positives in (0, labels):
        raise ValueError(
            f"auroc: labels: expected positives and negatives, got {positives} positives among {labels} labels"
        )


def _auroc_cpu(scores: Tensor, labels: Tensor) -> Tensor:
    _check_auroc(scores, labels)
    flat, marks = scores.reshape(-1), labels.reshape(-1)
    (nan, negatives), area = _C.auroc(view(flat), view(marks), torch.get_num_threads())
    _require_classes(len(flat), len(flat) - negatives)
    if nan >= 0:
        raise ValueError(f"auroc: scores: expected numbers, got NaN in {describe(scores)}")
    return torch.tensor(area, dtype=torch.float64)


def _auroc_cuda(scores: Tensor, labels: Tensor) -> Tensor:
    _check_auroc(scores, labels)
    flat, marks = scores.reshape(-1), labels.reshape(-1)
    _require_classes(len(flat), int(marks.count_nonzero()))
    if bool(flat.isnan().any()):
        raise ValueError(f"auroc: scores: expected numbers, got NaN in {describe(scores)}")
    return reference.auroc(flat, marks)


def _auroc_fake(scores: Tensor, labels: Tensor) -> Tensor:
    _check_auroc(scores, labels)
    return scores.new_empty((), dtype=torch.float64)


register(
    "label_regions",
    "(Tensor masks) -> (Tensor, Tensor)",
    cpu=_label_regions_cpu,
    cuda_reference=_label_regions_cuda,
    fake=_label_regions_fake,
)
register(
    "au_pro",
    "(Tensor[] maps, Tensor[] masks, float limit) -> Tensor",
    cpu=_au_pro_cpu,
    cuda_reference=_au_pro_cuda,
    fake=_au_pro_fake,
)
register(
    "au_spro",
    "(Tensor[] maps, Tensor[] regions, Tensor saturations, float[] limits) -> Tensor",
    cpu=_au_spro_cpu,
    cuda_reference=_au_spro_cuda,
    fake=_au_spro_fake,
)
register(
    "pro_curve",
    "(Tensor[] maps, Tensor[] masks) -> (Tensor, Tensor, Tensor)",
    cpu=_pro_curve_cpu,
    cuda_reference=_pro_curve_cuda,
    fake=_pro_curve_fake,
)
register(
    "spro_curve",
    "(Tensor[] maps, Tensor[] regions, Tensor saturations) -> (Tensor, Tensor, Tensor)",
    cpu=_spro_curve_cpu,
    cuda_reference=_spro_curve_cuda,
    fake=_spro_curve_fake,
)
register(
    "spro_area",
    "(Tensor negatives, Tensor region_scores, Tensor region_offsets, Tensor saturations, float[] limits) -> Tensor",
    cpu=_with_data(_spro_area_native),
    cuda_reference=_with_data(reference.spro_area),
    fake=_spro_area_fake,
)
register(
    "auroc",
    "(Tensor scores, Tensor labels) -> Tensor",
    cpu=_auroc_cpu,
    cuda_reference=_auroc_cuda,
    fake=_auroc_fake,
)
