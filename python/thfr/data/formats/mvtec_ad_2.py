"""MVTec AD 2 (Heckler-Kram et al., 2025): eight products under changing light.

The public test split has masks; the two private ones are scored by the publisher's server and are not listed
here (``thfr predict`` writes maps for them). AU-PRO integrates to a false positive rate of 0.05.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from thfr.data.base import GOOD, ComponentDataset, Sample
from thfr.data.layout import collect, collect_kinds, has_images, with_masks
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
        truth = folder / _PUBLIC / "ground_truth"
        test: list[Sample] = [sample for sample in found if not sample.is_anomalous]
        for kind in dict.fromkeys(sample.kind for sample in found if sample.is_anomalous):
            samples = [sample for sample in found if sample.kind == kind]
            test += with_masks(name, truth / kind, samples) if has_images(truth) else samples
        if not has_images(truth):
            notes.append(f"no {_PUBLIC}/ground_truth: there are no masks, pixel figures are undefined")
        return cls(name, root, category, tuple(train), tuple(validation), tuple(test), tuple(notes))
