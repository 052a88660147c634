"""The sweeps on CUDA: the kernels of csrc/sweep/cuda, with CUB's sorts and running sums between them.

Only the scores of regions' pixels are sorted; each other pixel is read once and counted among them. Shapes
depend on how many pixels lie in regions: an operator waits for that, once, and gets all it has to refuse with
it. A NaN that is found later makes areas NaN, which :mod:`thfr_ext.sweep` refuses when it reads them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from thfr_ext.core import devices
from thfr_ext.core.tensors import View, view
from thfr_ext.sweep.checks import (
    Samples,
    Tensors,
    raise_nan,
    require_classes,
    require_filled,
    require_negatives,
    require_offsets,
    require_regions,
    require_saturations,
    wide_dtype,
)
from thfr_ext.sweep.labels import Labels, label_images

#: of regions' pixels: counters and ranks are numbered with 32 bits
MOST_PIXELS = 2**31 - 1
#: of a float dtype's numbers, the low bits that are 0 in fp32
ZERO_BITS = {torch.float16: 13, torch.bfloat16: 16}


def _view(tensor: Tensor) -> View:
    """Of int32 too, which comes as float32: the native module knows which it is."""
    return view(tensor.view(torch.float32) if tensor.dtype == torch.int32 else tensor)


def _views(tensors: Sequence[Tensor]) -> list[View]:
    return [_view(t) for t in tensors]


def _key_dtype(wide: torch.dtype) -> torch.dtype:
    return torch.int64 if wide == torch.float64 else torch.int32


def _of_one_width(maps: Tensors) -> Tensors:
    """All fp64 or none, which the kernels are made for."""
    if wide_dtype(maps) == torch.float64:
        return [m.double() for m in maps]
    return maps


def _none(like: Tensor) -> Tensor:
    return like.new_empty(0, dtype=torch.int64)


def scratch_of(like: Tensor, numbers: int, pixels: int = 0) -> Tensor:
    """What running sums and sorts work in. Called on the device."""
    return like.new_empty(devices.native.cuda_sweep_scratch(numbers, pixels), dtype=torch.bool)


def _unmarked(maps: Sequence[Tensor]) -> Tensors:
    """Marks of images without any."""
    return [m.new_empty((0, *m.shape), dtype=torch.bool) for m in maps]


class Marks(NamedTuple):
    """What the first look at the masks has found; the numbers are on the host."""

    regions: Tensors  # bool [R_i,H,W]
    unions: Tensors  # bool [1,H,W], or [0,H,W] where there is no region
    sums: Tensor  # of marked pixels of chunks, region after region
    union_sums: Tensor  # the same of the unions, image after image; they go on from those
    offsets: Tensor  # of the regions' pixels
    pixels: int  # of regions
    negatives: int
    empty: bool  # some region is
    low: bool  # some saturation is below 1
    nan: bool  # some pixel, if they were looked at
    components: int  # as `labels` says, if there are any
    flag: Tensor  # [1], of NaN
    total: Tensor  # [2], zeros


def _look(
    regions: Tensors,
    saturations: Tensor | None = None,
    maps: Tensors | None = None,
    labels: Labels | None = None,
) -> Marks:
    """Counts marked pixels, and looks for NaN in ``maps``. Waits for the device."""
    first = regions[0]
    sizes = [(r.shape[0], r.shape[1] * r.shape[2]) for r in regions]
    bytes_of = [devices.native.cuda_covered_bytes(pixels, count) for count, pixels in sizes]
    chunks = [devices.native.cuda_sweep_chunks(pixels) for _, pixels in sizes]
    in_regions = sum(c * count for c, (count, _) in zip(chunks, sizes, strict=True))
    covered = first.new_empty(sum(bytes_of))
    sums = first.new_empty(in_regions + sum(chunks), dtype=torch.int64)
    offsets = first.new_empty(sum(count for count, _ in sizes) + 1, dtype=torch.int64)
    summary = first.new_empty(8, dtype=torch.int64)
    views = _views(regions)
    found = _none(first) if labels is None else labels.found
    with devices.on_device_of(first) as stream:
        scratch = scratch_of(first, len(sums))
        devices.native.cuda_count_marks(
            views, view(covered), view(sums), view(summary), view(scratch), stream
        )
        bounds = _none(first) if saturations is None else saturations.contiguous()
        devices.native.cuda_find_offsets(
            views, view(sums), view(bounds), view(found), view(offsets), view(summary), stream
        )
        if maps is not None:
            _find_nan(maps, summary[4:5], stream)
    pixels, empty, low, total, nan, components = summary[:6].tolist()
    unions, start = [], 0
    for stack, size in zip(regions, bytes_of, strict=True):
        if stack.shape[0] > 1:
            plane = covered[start : start + stack[0].numel()]
            unions.append(plane.view(1, *stack.shape[1:]))
        else:
            unions.append(stack)
        start += size
    negatives = sum(p for _, p in sizes) - (total - pixels)
    return Marks(
        regions, unions, sums[:in_regions], sums[in_regions:], offsets, pixels, negatives,
        empty > 0, low > 0, nan > 0, components, summary[4:5], summary[6:],
    )  # fmt: skip


def _find_nan(maps: Tensors, flag: Tensor, stream: int) -> None:
    nothing, ends = _none(flag), flag.new_empty(devices.native.cuda_sweep_segments())
    values = nothing.to(_key_dtype(wide_dtype(maps)))
    table = flag.new_empty(len(ends) + 1, dtype=torch.int32)
    _Index(nothing, values, ends, table, flag.new_zeros(1)).tally(maps, _unmarked(maps), False, flag, stream)


def _require_few(name: str, pixels: int) -> None:
    if pixels > MOST_PIXELS:
        raise ValueError(f"{name}: expected fewer than 2^31 pixels in regions, got {pixels}")


def _require_negatives(name: str, argument: str, maps: Tensors, negatives: int) -> None:
    if negatives == 0:
        if any(bool(m.isnan().any()) for m in maps):  # says so first, as on the CPU
            raise_nan(name, "maps", maps)
        require_negatives(name, argument, negatives)


def _collect(
    maps: Tensors,
    marks: Marks,
    *,
    marked: bool,
    labels: Labels | None = None,
    raw: bool = False,
) -> tuple[Tensor, Tensor]:
    """Keys of the pixels in regions (or, not ``marked``, in none), or scores if ``raw``; their regions."""
    wide = wide_dtype(maps)
    count = marks.pixels if marked else marks.negatives
    scores = marks.sums.new_empty(count, dtype=wide if raw else _key_dtype(wide))
    region = marks.sums.new_empty(count if marked else 0, dtype=torch.int32)
    images = labels.images if labels is not None else []
    sums = marks.sums if marked else marks.union_sums - marks.pixels
    with devices.on_device_of(marks.sums) as stream:
        devices.native.cuda_collect_scores(
            _views(maps), _views(marks.regions if marked else marks.unions),
            view(sums), marked, not raw, _views(images),
            _view(scores), _view(region), view(marks.flag), stream,
        )  # fmt: skip
    return scores, region


class _Index(NamedTuple):
    """What finds a score among the distinct values of sorted keys [n], and bins [2n+1] to count with."""

    rank: Tensor
    values: Tensor
    ends: Tensor
    table: Tensor
    bins: Tensor

    @classmethod
    def of(cls, keys: Tensor, stream: int, numbers: Tensor | None = None) -> _Index:
        """``numbers`` [n] int32 become 0, 1, ..."""
        rank, bins = (keys.new_empty(n, dtype=torch.int64) for n in (len(keys), 2 * len(keys) + 1))
        values, ends = torch.empty_like(keys), rank.new_empty(devices.native.cuda_sweep_segments())
        table = keys.new_empty(len(keys) + len(ends) + 1, dtype=torch.int32)
        made, scratch = cls(rank, values, ends, table, bins), scratch_of(keys, 1, len(keys))
        counted = _view(table[:0] if numbers is None else numbers)
        devices.native.cuda_make_index(_view(keys), made.views(), view(bins), counted, view(scratch), stream)
        return made

    def views(self) -> tuple[View, ...]:
        return tuple(map(_view, self[:4]))

    def tally(self, maps: Tensors, marks: Tensors, marked: bool, flag: Tensor, stream: int) -> Tensor:
        """Running sums [2n+1] of the pixels of ``maps`` below and at each value."""
        scratch = scratch_of(flag, len(self.bins))
        devices.native.cuda_count_scores(
            _views(maps), _views(marks), marked, self.views(), view(self.bins), view(flag), view(scratch),
            stream,
        )  # fmt: skip
        return self.bins


def _sorted(keys: Tensor, region: Tensor, maps: Tensors, stream: int) -> tuple[Tensor, Tensor]:
    """Keys of the pixels of ``maps`` ascending, and their regions."""
    ordered, permuted = torch.empty_like(keys), torch.empty_like(region)
    first_bit = min(ZERO_BITS.get(m.dtype, 0) for m in maps)
    scratch = scratch_of(keys, 1, len(keys))
    devices.native.cuda_sort_scores(
        _view(keys), _view(region), _view(ordered), _view(permuted), first_bit, view(scratch), stream
    )
    return ordered, permuted


def _areas(
    keys: Tensor,  # [p]
    region: Tensor,  # [p] int32
    offsets: Tensor | None,  # [R+1] int64; None: as many of each region as there are in `region`
    regions: int,
    saturations: Tensor | None,  # [R] int64; None: the areas
    maps: Tensors,
    unions: Tensors,
    limits: Sequence[float],
    flag: Tensor,
) -> Tensor:  # [L] fp64
    shares, areas = (keys.new_empty(s, dtype=torch.float64) for s in ((len(limits), regions), len(limits)))
    twice = keys.new_empty(len(keys), dtype=torch.int64)
    with devices.on_device_of(keys) as stream:
        ordered, region = _sorted(keys, region, maps, stream)
        place, in_region, numbers = (torch.empty_like(region) for _ in range(3))
        index = _Index.of(ordered, stream, numbers)
        sums = index.tally(maps, unions, False, flag, stream)
        bounds = [_none(keys) if t is None else t.contiguous() for t in (offsets, saturations)]
        order = (*map(_view, (place, in_region, *bounds)), regions)
        scratch = scratch_of(keys, 1, len(keys))
        devices.native.cuda_order_regions(_view(region), _view(numbers), order, view(scratch), stream)
        devices.native.cuda_share_areas(
            order, index.views(), view(sums), view(twice), list(limits), view(flag), view(shares),
            view(areas), view(scratch), stream,
        )  # fmt: skip
    return areas


def _planes(masks: Tensors) -> Tensors:
    return [m.unsqueeze(0) for m in masks]


def au_pro(maps: Tensors, masks: Tensors, limit: float) -> Tensor:  # [] fp64
    maps, labels = _of_one_width(maps), label_images(masks)
    marks = _look(_planes(masks), labels=labels)
    require_regions("au_pro", "masks", marks.components, len(maps))
    _require_few("au_pro", marks.pixels)
    _require_negatives("au_pro", "masks", maps, marks.negatives)
    keys, region = _collect(maps, marks, marked=True, labels=labels)
    return _areas(keys, region, None, marks.components, None, maps, marks.unions, [limit], marks.flag)[0]


def au_spro(
    maps: Tensors, regions: Tensors, saturations: Tensor, limits: Sequence[float]
) -> Tensor:  # [L] fp64
    require_regions("au_spro", "regions", len(saturations), len(maps))
    maps = _of_one_width(maps)
    marks = _look(regions, saturations)
    _refuse("au_spro", marks, saturations)
    _require_negatives("au_spro", "regions", maps, marks.negatives)
    keys, region = _collect(maps, marks, marked=True)
    return _areas(
        keys, region, marks.offsets, len(saturations), saturations, maps, marks.unions, limits, marks.flag
    )  # fmt: skip


def _refuse(name: str, marks: Marks, saturations: Tensor | None = None) -> None:
    if marks.low and saturations is not None:
        require_saturations(name, saturations)
    if marks.empty:
        require_filled(name, marks.regions)
    _require_few(name, marks.pixels)


def component_samples(maps: Tensors, masks: Tensors, name: str = "component_samples") -> Samples:
    maps, labels = _of_one_width(maps), label_images(masks)
    marks = _look(_planes(masks), maps=maps, labels=labels)
    if marks.nan:
        raise_nan(name, "maps", maps)
    _require_few(name, marks.pixels)
    scores, region = _collect(maps, marks, marked=True, labels=labels, raw=True)
    negatives, _ = _collect(maps, marks, marked=False, raw=True)
    in_region, order = region.sort(stable=True)
    starts = torch.arange(marks.components + 1, dtype=torch.int32, device=region.device)
    return negatives, scores.index_select(0, order), torch.searchsorted(in_region, starts)


def region_samples(maps: Tensors, regions: Tensors, name: str = "region_samples") -> Samples:
    maps = _of_one_width(maps)
    marks = _look(regions, maps=maps)
    _refuse(name, marks)
    if marks.nan:
        raise_nan(name, "maps", maps)
    scores, _ = _collect(maps, marks, marked=True, raw=True)
    negatives, _ = _collect(maps, marks, marked=False, raw=True)
    return negatives, scores, marks.offsets


def spro_area(
    negatives: Tensor, scores: Tensor, offsets: Tensor, saturations: Tensor, limits: Sequence[float]
) -> Tensor:  # [L] fp64
    require_negatives("spro_area", "negatives", len(negatives))
    areas = offsets.diff()
    fits = (offsets[0] == 0) & (offsets[-1] == len(scores)) & (areas >= 1).all()
    findings = [fits, (saturations >= 1).all(), negatives.amax().isnan(), scores.isnan().any()]
    fit, high, nan, region_nan = torch.stack(findings).tolist()
    if not fit:
        require_offsets("spro_area", scores, offsets)
    if not high:
        require_saturations("spro_area", saturations)
    for argument, found in {"negatives": nan, "region_scores": region_nan}.items():
        if found:
            raise ValueError(f"spro_area: {argument}: expected numbers, got NaN")
    _require_few("spro_area", len(scores))
    scores, offsets = scores.contiguous(), offsets.contiguous()
    keys = scores.new_empty(len(scores), dtype=_key_dtype(scores.dtype))
    with devices.on_device_of(scores) as stream:
        devices.native.cuda_make_keys(view(scores), _view(keys), stream)
    pixels = torch.arange(len(scores), device=scores.device)
    region = torch.searchsorted(offsets[1:], pixels, right=True, out_int32=True)
    maps = [negatives.unsqueeze(0)]
    return _areas(
        keys, region, offsets, len(saturations), saturations, maps, _unmarked(maps), limits,
        offsets.new_zeros(1),
    )  # fmt: skip


def auroc(scores: Tensor, labels: Tensor) -> Tensor:  # [] fp64
    maps, marked = [scores.reshape(1, -1)], [labels.reshape(1, 1, -1)]
    if labels.numel() == 0:
        require_classes(0, 0)
    marks = _look(marked)
    positives, negatives = marks.pixels, marks.negatives
    require_classes(labels.numel(), positives)
    few = positives <= negatives  # the smaller class is sorted, the larger counted
    _require_few("auroc", min(positives, negatives))
    keys, _ = _collect(maps, marks, marked=few)
    numbers = torch.empty_like(keys, dtype=torch.int32)  # what they are does not matter
    area = scores.new_empty(1, dtype=torch.float64)
    with devices.on_device_of(scores) as stream:
        ordered, _ = _sorted(keys, numbers, maps, stream)
        index = _Index.of(ordered, stream)
        sums = index.tally(maps, marks.unions, not few, marks.flag, stream)
        devices.native.cuda_rank_area(
            view(index.rank),
            view(sums),
            few,
            float(positives * negatives),
            view(marks.total),
            view(marks.flag),
            view(area),
            stream,
        )
    return area[0]
