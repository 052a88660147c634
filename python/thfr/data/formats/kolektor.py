"""KolektorSDD (Tabernik et al., Journal of Intelligent Manufacturing 2020): cracks in commutators.

50 items of 8 images; the labels of good images are all black. The official protocol is supervised, by three
folds; for learning from good images there is none, so ours is stated: good images of the items in the first
half are learnt from, all images of the other items are tested, so that no item is on both sides.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from thfr.data.base import GOOD, Sample, WholeDataset
from thfr.data.folders import subfolders
from thfr.data.parallel import parallel_map
from thfr.data.registry import register_dataset
from thfr.errors import InputError
from thfr.io import decode, list_images, printable

KIND = "crack"


@register_dataset("kolektor")
@dataclass(frozen=True)
class KolektorSDD(WholeDataset):
    """``kos01/Part0.jpg`` with ``kos01/Part0_label.bmp``; the whole set is one category."""

    @classmethod
    def open(cls, root: Path, category: str) -> KolektorSDD:
        folder = root / category
        items = [path for path in subfolders(folder) if path.name.lower().startswith("kos")]
        if len(items) < 2:
            raise InputError(f"kolektor: expected folders kos01, kos02, ... in {printable(folder)}")
        half = (len(items) + 1) // 2
        train, notes = good_only(labelled("kolektor", items[:half], "train", "_label", KIND))
        test = labelled("kolektor", items[half:], "test", "_label", KIND)
        return cls("kolektor", root, category, train, (), tuple(test), notes)


def good_only(samples: list[Sample]) -> tuple[tuple[Sample, ...], tuple[str, ...]]:
    """The good ones of training images, and a note on how many are not."""
    good = tuple(sample for sample in samples if not sample.is_anomalous)
    left_out = len(samples) - len(good)
    return good, (f"{left_out} defective training image(s) are left out",) if left_out else ()


def labelled(name: str, folders: list[Path], split: str, suffix: str, kind: str) -> list[Sample]:
    """The images of the folders; one whose label image (``<id><suffix>``) is not all black is of ``kind``.

    Raises:
        InputError: no image, or images without their label (all are named).
    """
    samples, missing = [], []
    for folder in folders:
        paths = [path for path in list_images(folder) if not _is_copy(path)]
        labels = {path.stem.lower(): path for path in paths if path.stem.lower().endswith(suffix.lower())}
        for path in paths:
            if path.stem.lower() in labels:
                continue
            label = labels.get(f"{path.stem}{suffix}".lower())
            stem = path.stem if len(folders) == 1 else f"{folder.name}_{path.stem}"
            if label is None:
                missing.append(printable(path))
            else:
                samples.append(Sample(path, split, GOOD, stem, (label,)))
    if missing:
        some = ", ".join(missing[:5])
        raise InputError(f"{name}: {len(missing)} image(s) have no label image ({suffix}): {some}")
    if not samples:
        raise InputError(f"{name}: the {split} split is empty: no image in {printable(folders[0].parent)}")
    marked = parallel_map(_is_marked, samples)
    return [
        replace(sample, kind=kind) if bad else replace(sample, mask_paths=())
        for sample, bad in zip(samples, marked, strict=True)
    ]


def _is_copy(path: Path) -> bool:
    """Whether a file is a copy that lies beside its original: the archive of KolektorSDD2 holds
    ``10301 (copy).png`` and ``10301_GT (copy).png``.
    """
    return " (copy)" in path.stem and path.with_name(path.name.replace(" (copy)", "")).is_file()


def _is_marked(sample: Sample) -> bool:
    return bool(np.any(decode(sample.mask_paths[0], reader="read_mask").pixels))
