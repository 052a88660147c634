"""BTAD, beanTech Anomaly Detection (Mishra et al., ISIE 2021): three products, 01, 02, 03; MVTec AD's
protocol.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from thfr.data.base import GOOD, ComponentDataset
from thfr.data.layout import collect, collect_kinds, with_ground_truth
from thfr.data.registry import register_dataset


@register_dataset("btad")
@dataclass(frozen=True)
class BTAD(ComponentDataset):
    """``train/ok``, ``test/{ok,ko}``, ``ground_truth/ko/<id>.png`` or ``.bmp``; images are PNG or BMP."""

    @classmethod
    def open(cls, root: Path, category: str) -> BTAD:
        folder, notes = root / category, list[str]()
        train = collect("btad", folder, "train", GOOD, "train/ok", notes)
        test = collect_kinds("btad", folder, "test", "test", notes, good=("ok",))
        test = with_ground_truth("btad", folder, test, notes)
        return cls("btad", root, category, tuple(train), (), tuple(test), tuple(notes))

    @classmethod
    def hint(cls) -> str:
        return "train/ok"
