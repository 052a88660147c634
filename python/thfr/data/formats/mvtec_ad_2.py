"""MVTec AD 2 (Heckler-Kram et al., 2025): eight products under changing light.

The public test split has masks; the two private ones are scored by the publisher's server and are not listed
here (``thfr predict`` writes maps for them). AU-PRO integrates to a false positive rate of 0.05.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from thfr.data.base import GOOD, ComponentDataset
from thfr.data.layout import collect, collect_kinds, with_ground_truth
from thfr.data.registry import register_dataset

_PUBLIC = "test_public"


@register_dataset("mvtec_ad_2")
@dataclass(frozen=True)
class MVTecAD2(ComponentDataset):
    """``{train,validation}/good``, ``test_public/{good,bad}``,
    ``test_public/ground_truth/bad/<id>_mask.png``.
    """

    PRO_LIMIT: ClassVar[float] = 0.05

    @classmethod
    def open(cls, root: Path, category: str) -> MVTecAD2:
        folder, notes, name = root / category, list[str](), "mvtec_ad_2"
        train = collect(name, folder, "train", GOOD, "train/good", notes)
        validation = collect(name, folder, "validation", GOOD, "validation/good", notes)
        found = collect_kinds(name, folder, "test", _PUBLIC, notes, skip=("ground_truth",))
        test = with_ground_truth(name, folder, found, notes, f"{_PUBLIC}/ground_truth")
        return cls(name, root, category, tuple(train), tuple(validation), tuple(test), tuple(notes))
