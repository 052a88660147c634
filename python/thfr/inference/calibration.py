"""The decision threshold of a finished run, set anew."""

from __future__ import annotations

import os
from pathlib import Path

from thfr.data import gathered, load_inputs
from thfr.errors import InputError
from thfr.io import IMAGE_SUFFIXES, find_images, printable
from thfr.methods import Detector
from thfr.runs.threshold import DEFAULT_RATE, Threshold


def calibrate(
    run: str | os.PathLike[str],
    images: str | os.PathLike[str] | None = None,
    rate: float = DEFAULT_RATE,
    *,
    device: str = "auto",
    progress: bool = False,
    notes: list[str] | None = None,
) -> Threshold:
    """Replace a run's threshold; see :class:`thfr.runs.threshold.Threshold`.

    Args:
        run: folder of a finished training.
        images: folder of good images, with its sub-folders, that were not learnt from; None: the scores of
            the run's own threshold, for another rate.
        rate: share of good images that may be called bad.
        notes: takes what was decided about the images, and which files were not looked at.

    Raises:
        InputError: no finished run there, no image in the folder, or none given and no threshold to go by; a
            rate outside of (0, 1).
    """
    folder = Path(run)
    if images is None:
        old = Threshold.load(folder)
        if old is None:
            raise InputError(
                f"calibrate: {folder} has no threshold yet; expected a folder of good images to set it by"
            )
        threshold = Threshold.from_scores(old.scores, rate, old.source)
    else:
        detector = Detector.load(folder, device)
        listing = find_images(images, recursive=True)
        if not listing.images:
            raise InputError(f"calibrate: no image ({' '.join(IMAGE_SUFFIXES)}) in {printable(images)}")
        loaded = load_inputs(listing.images, detector.size, detector.inputs.options, progress=progress)
        if notes is not None:
            notes += [*gathered(loaded.notes), *listing.notes(Path(images))]
        words = f"good images of {Path(images).name}"
        threshold = detector.calibrate(loaded.images, rate, words, sizes=loaded.sizes)
        assert detector.scale is not None  # calibration sets both
        detector.scale.save(folder)
        if detector.reference is not None:
            detector.reference.save(folder)
    threshold.save(folder)
    return threshold
