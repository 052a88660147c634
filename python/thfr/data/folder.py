"""A plain folder of good images, for training on one's own product."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from thfr.data.base import GOOD, Dataset, Regions, Sample
from thfr.errors import InputError
from thfr.io import IMAGE_SUFFIXES, image_size, list_images


@dataclass(frozen=True)
class ImageFolder(Dataset):
    """Every image below ``root / category``, all good, all for training; validation and test are empty."""

    def regions(self, sample: Sample) -> Regions:
        return Regions(masks=np.zeros((0, *image_size(sample.path)), dtype=bool), saturations=())


def open_folder(folder: Path) -> ImageFolder:
    """List the images of ``folder`` and of the folders in it; decodes nothing.

    Raises:
        InputError: there is none.
    """
    images = list_images(folder, recursive=True)
    if not images:
        raise InputError(f"folder: no image ({' '.join(IMAGE_SUFFIXES)}) in {folder}")
    train = tuple(
        Sample(path=path, split="train", kind=GOOD, id=path.relative_to(folder).with_suffix("").as_posix())
        for path in images
    )
    return ImageFolder(
        name="folder", root=folder.parent, category=folder.name, train=train, validation=(), test=()
    )
