"""DAGM 2007 (Wieler and Hahn): ten classes of artificial textures with one kind of defect each.

The official split trains on good and defective images; here, as everywhere, only the good ones are learnt
from and all of ``Test`` is tested. The masks are ellipses around the defects: weak labels, so that pixel
figures are low for every method.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from thfr.data.base import GOOD, ComponentDataset, Sample
from thfr.data.layout import collect
from thfr.data.registry import register_dataset
from thfr.errors import InputError
from thfr.io import list_images, printable

KIND = "defect"


@register_dataset("dagm")
@dataclass(frozen=True)
class DAGM(ComponentDataset):
    """``Class1/{Train,Test}/0576.PNG``; a defective image has ``Label/0576_label.PNG`` in the same folder."""

    @classmethod
    def open(cls, root: Path, category: str) -> DAGM:
        folder, notes = root / category, list[str]()
        train = [sample for sample in _split(folder, "train", notes) if not sample.is_anomalous]
        test = _split(folder, "test", notes)
        if not train:
            raise InputError(f"dagm: no good image in {printable(folder / 'Train')}")
        return cls("dagm", root, category, tuple(train), (), tuple(test), tuple(notes))

    @classmethod
    def is_category(cls, folder: Path) -> bool:
        return _folder(folder, "train") is not None and _folder(folder, "test") is not None

    @classmethod
    def hint(cls) -> str:
        return "Train and Test"


def _folder(folder: Path, split: str) -> str | None:
    return next((name for name in (split.capitalize(), split) if (folder / name).is_dir()), None)


def _split(folder: Path, split: str, notes: list[str]) -> list[Sample]:
    name = _folder(folder, split) or split.capitalize()
    samples = collect("dagm", folder, split, GOOD, name, notes, skip=("Label",))
    labels = folder / name / "Label"
    masks = {path.stem.lower(): path for path in list_images(labels)} if labels.is_dir() else {}
    found = []
    for sample in samples:
        mask = masks.pop(f"{sample.id}_label".lower(), None)
        found.append(sample if mask is None else replace(sample, kind=KIND, mask_paths=(mask,)))
    if masks:
        names = ", ".join(printable(path.name) for path in list(masks.values())[:5])
        raise InputError(f"dagm: {len(masks)} label(s) of {printable(labels)} belong to no image: {names}")
    return found
