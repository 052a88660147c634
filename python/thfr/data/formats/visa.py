"""VisA (Zou et al., ECCV 2022): twelve products; the split is a CSV file, one-class by default.

Masks hold small labels of the kind of defect; any of them is anomalous. Protocol: image AUROC, pixel AUROC,
AU-PRO.
"""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path

from thfr.data.base import GOOD, ComponentDataset, Sample
from thfr.data.layout import check_listed
from thfr.data.registry import register_dataset
from thfr.errors import InputError
from thfr.io import printable

SPLIT = "split_csv/1cls.csv"
_COLUMNS = ("object", "split", "label", "image", "mask")


@register_dataset("visa")
@dataclass(frozen=True)
class VisA(ComponentDataset):
    """``<object>/Data/Images/{Normal,Anomaly}/*.JPG``, ``<object>/Data/Masks/Anomaly/*.png``,
    ``split_csv/1cls.csv`` beside the objects.
    """

    @classmethod
    def open(cls, root: Path, category: str) -> VisA:
        rows = [row for row in _rows(root / SPLIT) if row["object"] == category]
        samples = {"train": list[Sample](), "test": list[Sample]()}
        for row in rows:
            image, masks = root / row["image"], (root / row["mask"],) if row["mask"] else ()
            kind = GOOD if row["label"] == "normal" else row["label"]
            split = samples.get(row["split"])
            if split is None:
                raise InputError(f"visa: split must be train or test, got {row['split']!r} in {root / SPLIT}")
            split.append(Sample(image, row["split"], kind, image.stem, masks))
        check_listed("visa", f"{SPLIT} ({category})", samples)
        return cls("visa", root, category, tuple(samples["train"]), (), tuple(samples["test"]))

    @classmethod
    def is_category(cls, folder: Path) -> bool:
        return (folder / "Data" / "Images").is_dir()

    @classmethod
    def hint(cls) -> str:
        return "Data/Images"


def _rows(path: Path) -> list[dict[str, str]]:
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file)
            rows = list(reader)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"visa: cannot read {printable(path)}: {error}") from error
    if set(_COLUMNS) - set(reader.fieldnames or ()):
        raise InputError(
            f"visa: {printable(path)} must have the columns {', '.join(_COLUMNS)}, got {reader.fieldnames}"
        )
    return [{key: row[key] or "" for key in _COLUMNS} for row in rows]
