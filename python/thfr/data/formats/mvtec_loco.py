"""MVTec LOCO AD (Bergmann et al., IJCV 2022): one PNG a region, saturation thresholds by its pixel value."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError, model_validator

from thfr.data.base import GOOD, Dataset, Regions, Sample
from thfr.data.folders import quoted_list
from thfr.data.layout import collect, collect_kinds, with_ground_truth
from thfr.data.registry import register_dataset
from thfr.errors import InputError
from thfr.io import list_images, printable, read_mask
from thfr.io.masks import covering

CONFIG_NAME = "defects_config.json"
KINDS = ("logical_anomalies", "structural_anomalies")
_LOSSLESS = (".png", ".bmp", ".tif", ".tiff")


class Defect(BaseModel):
    """One entry of ``defects_config.json``."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)
    defect_name: Annotated[str, Field(min_length=1)]
    pixel_value: Annotated[int, Field(ge=1, le=255)]
    saturation_threshold: int | float
    """A number of pixels at native size, or a fraction of the region's area if ``relative_saturation``."""
    relative_saturation: bool

    @model_validator(mode="after")
    def _check_threshold(self) -> Defect:
        threshold = self.saturation_threshold
        if self.relative_saturation and not 0 < threshold <= 1:
            raise ValueError(f"a relative saturation_threshold must lie in (0, 1], got {threshold}")
        if not self.relative_saturation and not (isinstance(threshold, int) and threshold >= 1):
            raise ValueError(f"an absolute saturation_threshold must be an integer >= 1, got {threshold}")
        return self

    def saturation(self, area: int) -> int:
        """The saturation area in pixels of a region of ``area`` pixels.

        int(threshold * area) if relative, cut off as the protocol does (so it may come to 0), otherwise
        min(threshold, area).
        """
        if self.relative_saturation:
            return int(self.saturation_threshold * area)
        return min(int(self.saturation_threshold), area)


_CONFIG = TypeAdapter(list[Defect])


def read_defects_config(path: str | os.PathLike[str]) -> dict[int, Defect]:
    """Read ``defects_config.json``: the defects by pixel value.

    Each entry has exactly the fields ``defect_name`` (unique), ``pixel_value`` (1 to 255, unique),
    ``saturation_threshold`` (an integer >= 1 of pixels, or a number in (0, 1]) and ``relative_saturation``.

    Raises:
        InputError: missing or malformed file; every entry that is wrong is named.
    """
    file = Path(path)
    try:
        text = file.read_text(encoding="utf-8-sig")  # some editors put a byte order mark first
        entries = _CONFIG.validate_python(json.loads(text))
    except ValidationError as error:
        problems = "; ".join(
            f"{_place(item['loc'])}: {item['msg']} (got {item['input']!r:.60})" for item in error.errors()
        )
        raise InputError(f"read_defects_config: {file}: {problems}") from error
    except (OSError, ValueError) as error:
        raise InputError(f"read_defects_config: cannot read {file}: {error}") from error
    if not entries:
        raise InputError(f"read_defects_config: {file} lists no defect")
    for attribute in ("pixel_value", "defect_name"):
        values = [getattr(entry, attribute) for entry in entries]
        doubled = sorted({value for value in values if values.count(value) > 1})
        if doubled:
            raise InputError(f"read_defects_config: {file}: {attribute} must be unique, {doubled} repeat")
    return {entry.pixel_value: entry for entry in entries}


def _place(location: tuple[int | str, ...]) -> str:
    """Where pydantic found the problem: the number of the entry, from 0, and its field."""
    return " ".join(["entry", *map(str, location)]) if location else "the whole file"


@register_dataset("mvtec_loco")
@dataclass(frozen=True)
class MVTecLOCO(Dataset):
    """``{train,validation}/good``, ``test/<kind>``, ``ground_truth/<kind>/<id>/<channel>.png``, a config.

    Each channel PNG is one region however many connected parts it has; its non-zero value names the defect.
    """

    defects: Mapping[int, Defect] = field(default_factory=dict, hash=False)

    PROTOCOL = "mvtec_loco"

    @classmethod
    def open(cls, root: Path, category: str) -> MVTecLOCO:
        """Without any image in ``ground_truth`` the data set has no masks, which is noted; the config may
        then be missing, too.
        """
        folder, notes, name = root / category, list[str](), "mvtec_loco"
        train = collect(name, folder, "train", GOOD, "train/good", notes)
        validation = collect(name, folder, "validation", GOOD, "validation/good", notes)
        found = collect_kinds(name, folder, "test", "test", notes)
        for kind in dict.fromkeys(sample.kind for sample in found):
            if kind not in (GOOD, *KINDS):
                place = f"{printable(kind)} in {printable(folder)}"
                raise InputError(f"mvtec_loco: test/ may hold good, {', '.join(KINDS)}; got {place}")
        test = with_ground_truth(name, folder, found, notes, masks=_with_channels)
        config, masked = folder / CONFIG_NAME, any(sample.mask_paths for sample in test)
        defects = read_defects_config(config) if masked or config.is_file() else {}
        splits = tuple(train), tuple(validation), tuple(test)
        return cls(name, root, category, *splits, tuple(notes), defects)

    def regions(self, sample: Sample) -> Regions:
        self._need_mask(sample)
        masks, saturations = [], []
        for path in sample.mask_paths:
            mask, value, _ = self._region_mask(sample, path)
            masks.append(mask)
            saturations.append(self._saturation(path, value, int(np.count_nonzero(mask))))
        if not masks:
            return Regions(masks=np.zeros((0, *self.size(sample)), dtype=bool), saturations=())
        return Regions(masks=np.stack(masks), saturations=tuple(saturations))

    def defect_names(self, sample: Sample) -> tuple[str, ...]:
        """The name of each region's defect, in the order of :meth:`regions`."""
        return tuple(
            self.defects[self._region_mask(sample, path)[1]].defect_name for path in sample.mask_paths
        )

    def _region_mask(self, sample: Sample, path: Path) -> tuple[np.ndarray, int, tuple[str, ...]]:
        values = read_mask(path)
        mask = values != 0
        self._check_mask(sample, path, mask)
        value, area = int(values.max()), int(np.count_nonzero(mask))
        if np.count_nonzero(values == value) != area:
            present = np.unique(values[mask])
            raise InputError(
                f"mvtec_loco: mask {printable(path)} must hold one non-zero value, got {len(present)}: "
                f"{', '.join(map(str, present[:8]))}{', ...' if len(present) > 8 else ''}"
            )
        if value not in self.defects:
            known = quoted_list([str(known) for known in sorted(self.defects)], "none", limit=40)
            raise InputError(
                f"mvtec_loco: mask {path} holds the pixel value {value}, "
                f"which {CONFIG_NAME} does not list ({known})"
            )
        self._saturation(path, value, area)
        return mask, value, covering(mask)

    def _saturation(self, path: Path, value: int, area: int) -> int:
        saturation = self.defects[value].saturation(area)
        if saturation < 1:  # the protocol would divide by it
            raise InputError(
                f"mvtec_loco: mask {path} has {area} pixel(s), too few for the relative saturation threshold "
                f"{self.defects[value].saturation_threshold} of {self.defects[value].defect_name}: "
                "the saturation area is 0 pixels"
            )
        return saturation


def _with_channels(name: str, folder: Path, samples: Sequence[Sample]) -> list[Sample]:
    """The samples of one anomalous kind with the PNGs of ``folder / <id>`` as their masks."""
    found, missing = [], []
    for sample in samples:
        channels = folder / sample.id
        present = list_images(channels) if channels.is_dir() else []
        masks = tuple(path for path in present if path.suffix.lower() in _LOSSLESS)
        if masks:
            found.append(replace(sample, mask_paths=masks))
        else:
            missing.append(
                f"the anomalous image {printable(sample.path)} has no mask: no PNG in {printable(channels)}"
            )
    if missing:
        more = [f"and {len(missing) - 20} more"] if len(missing) > 20 else []
        raise InputError(f"{name}: " + "\n  ".join([*missing[:20], *more]))
    return found
