"""The images that an exported model is compared on: the run's calibration images, and anomalies planted into
good ones.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from thfr.data import load_dataset
from thfr.data.planted import PLANTED, plant
from thfr.errors import InputError
from thfr.io import ReadOptions, read_image
from thfr.methods.base import Detector
from thfr.runs.folder import read_data
from thfr.training.trainer import divide

PLANTED_COUNT = 20


def calibration_paths(
    run: Path, detector: Detector[Any], images: str | os.PathLike[str] | None
) -> tuple[list[Path], str]:
    """Good images to compare on, and what they are in words: those of the folder ``images``, or those that
    set the run's threshold, from the data set that the run remembers.

    Raises:
        InputError: neither is there.
    """
    if images is not None:
        return [sample.path for sample in load_dataset("folder", images).train], f"{Path(images).name}"
    try:
        held = read_data(run)
        unseen = divide(load_dataset(held.dataset, held.root, held.category), detector.config.training)[2]
    except InputError as error:
        raise InputError(
            f"export: the calibration images of {run} are not to be found ({error}); "
            "give good images to compare on: --images FOLDER"
        ) from error
    if not unseen:
        raise InputError(
            f"export: {run} has kept no images for its threshold; give good ones to compare on: "
            "--images FOLDER"
        )
    return [sample.path for sample in unseen], "the run's calibration images"


def planted(paths: Sequence[Path], options: ReadOptions, seed: int = 0) -> list[np.ndarray]:
    """:data:`PLANTED_COUNT` anomalies of all kinds in turn, uint8 [H,W,3], made from good images."""
    kinds = tuple(PLANTED)
    made = []
    for number in range(PLANTED_COUNT):
        image = read_image(paths[number % len(paths)], options)
        other = read_image(paths[(number + 1) % len(paths)], options)
        if other.shape != image.shape:
            edges = (image.shape[1], image.shape[0])
            other = np.asarray(Image.fromarray(other).resize(edges, Image.Resampling.BILINEAR))
        made.append(plant(image, other, kinds[number % len(kinds)], seed * PLANTED_COUNT + number)[0])
    return made
