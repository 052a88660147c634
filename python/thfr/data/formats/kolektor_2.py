"""KolektorSDD2 (Bozic et al., Computers in Industry 2021): surface defects of one product, the official
split.

Training images with a defect are not learnt from; the copies of one image in the archive do not count.
Image AP is the figure that its authors report.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from thfr.data.base import WholeDataset
from thfr.data.folders import describe
from thfr.data.formats.kolektor import good_only, labelled
from thfr.data.registry import register_dataset
from thfr.errors import InputError
from thfr.io import printable

KIND = "defect"


@register_dataset("kolektor_2")
@dataclass(frozen=True)
class KolektorSDD2(WholeDataset):
    """``{train,test}/<id>.png`` with ``<id>_GT.png``; the whole set is one category."""

    @classmethod
    def open(cls, root: Path, category: str) -> KolektorSDD2:
        folder = root / category
        for split in ("train", "test"):
            if not (folder / split).is_dir():
                got = describe(folder)
                raise InputError(f"kolektor_2: expected the folder {split} in {printable(folder)}, got {got}")
        train, notes = good_only(labelled("kolektor_2", [folder / "train"], "train", "_GT", KIND))
        test = labelled("kolektor_2", [folder / "test"], "test", "_GT", KIND)
        return cls("kolektor_2", root, category, train, (), tuple(test), notes)
