"""MVTec AD (Bergmann et al., CVPR 2019), and every data set with its layout."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from thfr.data.base import GOOD, ComponentDataset
from thfr.data.layout import collect, collect_kinds, with_ground_truth
from thfr.data.registry import register_dataset

_Set = TypeVar("_Set", bound=ComponentDataset)


@register_dataset("mvtec_ad")
@dataclass(frozen=True)
class MVTecAD(ComponentDataset):
    """``train/good``, ``test/<kind>/<id>.png``, ``ground_truth/<kind>/<id>_mask.png``."""

    @classmethod
    def open(cls, root: Path, category: str) -> MVTecAD:
        """Without any image in ``ground_truth`` the data set has no masks, which is noted."""
        return open_as(cls, "mvtec_ad", root, category)


def open_as(cls: type[_Set], name: str, root: Path, category: str) -> _Set:
    """Open a category of this layout as the data set ``name``."""
    folder, notes = root / category, list[str]()
    train = collect(name, folder, "train", GOOD, "train/good", notes)
    found = collect_kinds(name, folder, "test", "test", notes)
    test = with_ground_truth(name, folder, found, notes)
    return cls(name, root, category, tuple(train), (), tuple(test), tuple(notes))
