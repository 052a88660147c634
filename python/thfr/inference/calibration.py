"""The decision threshold of a finished run, set anew."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from thfr.data import Loaded, gathered, load_inputs
from thfr.errors import InputError
from thfr.io import IMAGE_SUFFIXES, find_images, printable
from thfr.methods import Detector
from thfr.methods.common.calibrating import calibrate_categories
from thfr.runs.categories import Categories
from thfr.runs.threshold import DEFAULT_RATE, Threshold


def calibrate(
    run: str | os.PathLike[str],
    images: str | os.PathLike[str] | None = None,
    rate: float = DEFAULT_RATE,
    *,
    category: str | None = None,
    device: str = "auto",
    progress: bool = False,
    notes: list[str] | None = None,
) -> Threshold | Mapping[str, Threshold]:
    """Replace a run's threshold; see :class:`thfr.runs.threshold.Threshold`. Of a run on several categories
    that of one, or without images those of all; all of them are given.

    Args:
        run: folder of a finished training.
        images: folder of good images, with its sub-folders, that were not learnt from; None: the scores of
            the run's own threshold, for another rate.
        rate: share of good images that may be called bad.
        category: of a run on several: which one the images are of.
        notes: takes what was decided about the images, and which files were not looked at.

    Raises:
        InputError: no finished run there, no image in the folder, or none given and no threshold to go by; a
            rate outside of (0, 1); ``category`` of a run on one or without images, none of a run on several.
    """
    folder = Path(run)
    known = Categories.load(folder)
    if (category is not None) != (known is not None and images is not None):
        rule = "needed with images" if known is not None and images is not None else "not taken"
        what = "one category" if known is None else f"several ({', '.join(known.names)})"
        asked = "with" if images is not None else "without"
        raise InputError(f"calibrate: category: {rule} of a run on {what}, {asked} images; got {category}")
    if known is not None:
        return _of_several(folder, known, images, rate, category or "", device, progress, notes)
    if images is None:
        old = Threshold.load(folder)
        if old is None:
            raise InputError(
                f"calibrate: {folder} has no threshold yet; expected a folder of good images to set it by"
            )
        threshold = Threshold.from_scores(old.scores, rate, old.source)
    else:
        detector = Detector.load(folder, device)
        loaded, words = _read(detector, images, progress, notes)
        threshold = detector.calibrate(loaded.images, rate, words, sizes=loaded.sizes)
        assert detector.scale is not None  # calibration sets both
        detector.scale.save(folder)
        if detector.reference is not None:
            detector.reference.save(folder)
    threshold.save(folder)
    return threshold


def _of_several(
    folder: Path,
    known: Categories,
    images: str | os.PathLike[str] | None,
    rate: float,
    category: str,
    device: str,
    progress: bool,
    notes: list[str] | None,
) -> Mapping[str, Threshold]:
    """:func:`calibrate` of a run on several categories."""
    if images is None:
        if not known.thresholds:
            raise InputError(
                f"calibrate: {folder} has no thresholds yet; expected good images of each category"
            )
        anew = {
            name: Threshold.from_scores(old.scores, rate, old.source)
            for name, old in known.thresholds.items()
        }
        known = known.with_thresholds(anew)
    else:
        detector = Detector.load(folder, device)
        loaded, words = _read(detector, images, progress, notes)
        names = [category] * len(loaded.images)
        calibrate_categories(detector, loaded.images, names, rate, words, loaded.sizes)
        assert detector.categories is not None
        known = detector.categories
    known.save_thresholds(folder)
    return known.thresholds


def _read(
    detector: Detector, images: str | os.PathLike[str], progress: bool, notes: list[str] | None
) -> tuple[Loaded, str]:
    """The images of a folder, and which they are, in words."""
    listing = find_images(images, recursive=True)
    if not listing.images:
        raise InputError(f"calibrate: no image ({' '.join(IMAGE_SUFFIXES)}) in {printable(images)}")
    loaded = load_inputs(listing.images, detector.size, detector.inputs.options, progress=progress)
    if notes is not None:
        notes += [*gathered(loaded.notes), *listing.notes(Path(images))]
    return loaded, f"good images of {Path(images).name}"
