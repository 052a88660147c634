"""An input size that fits the images."""

from __future__ import annotations

import os
from collections.abc import Sequence

import numpy as np

from thfr.data import Dataset, Sample
from thfr.data.base import as_sample
from thfr.data.parallel import parallel_map
from thfr.errors import InputError
from thfr.io import image_size
from thfr.io.sizes import Size, canvas, fitted

AREA = 256 * 256
"""Pixels of the default size."""


def auto_size(
    dataset: Dataset | Sequence[Sample | str | os.PathLike[str]],
    *,
    tiles: Size = (1, 1),
    overlap: float = 0.1,
    area: int = AREA,
    multiple: int = 32,
) -> Size:
    """(height, width) for the network's input with the median aspect of the training images (of their tiles),
    about ``area`` pixels and edges that are multiples of ``multiple``. Headers are read, no pixels.

    Raises:
        InputError: no training image can be read.
    """
    samples = dataset.train if isinstance(dataset, Dataset) else [as_sample(one) for one in dataset]

    def shape(sample: Sample) -> float | None:
        try:
            height, width = image_size(sample.path, sample.oriented)
        except InputError:  # training names all that cannot be read
            return None
        return width / height

    found = parallel_map(shape, samples, progress=False, description="sizes")
    shapes = [one for one in found if one is not None]
    if not shapes:
        raise InputError("train: size auto: none of the training images can be read")
    unit = canvas((1000, 1000), tiles, overlap)  # in thousandths of a tile
    return fitted(float(np.median(shapes)) * unit[0] / unit[1], area, multiple)
