"""MVTec AD (Bergmann et al., CVPR 2019): one mask an image, its 8-connected components are the regions."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from skimage.measure import label

from thfr.data.base import GOOD, Dataset, Regions, Sample, collect, test_kinds
from thfr.errors import InputError


@dataclass(frozen=True)
class MVTecAD(Dataset):
    """``train/good``, ``test/<kind>/<id>.png``, ``ground_truth/<kind>/<id>_mask.png``."""

    def regions(self, sample: Sample) -> Regions:
        mask = self.mask(sample)
        labels, count = label(mask, connectivity=2, return_num=True)
        masks = labels[None] == np.arange(1, count + 1)[:, None, None]
        return Regions(masks=masks, saturations=tuple(int(region.sum()) for region in masks))


def open_mvtec_ad(root: Path, category: str) -> MVTecAD:
    """Check the layout of ``root / category`` and list its samples; decodes nothing.

    Raises:
        InputError: a folder or a mask is missing, or a split is empty.
    """
    folder = root / category
    train = collect("mvtec_ad", folder, "train", GOOD)
    test: list[Sample] = []
    for kind in test_kinds("mvtec_ad", folder):
        samples = collect("mvtec_ad", folder, "test", kind)
        test += samples if kind == GOOD else [_with_mask(folder, sample) for sample in samples]
    return MVTecAD(
        name="mvtec_ad", root=root, category=category, train=tuple(train), validation=(), test=tuple(test)
    )


def _with_mask(folder: Path, sample: Sample) -> Sample:
    mask = folder / "ground_truth" / sample.kind / f"{sample.id}_mask.png"
    if not mask.is_file():
        raise InputError(f"mvtec_ad: the anomalous image {sample.path} has no mask: expected {mask}")
    return replace(sample, mask_paths=(mask,))
