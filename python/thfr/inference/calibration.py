"""How anomalous good images look to a detector: the measure for its verdicts, colours and outlines."""

from __future__ import annotations

import os
from pathlib import Path

from thfr.data import load_dataset, load_images
from thfr.errors import InputError
from thfr.methods import Detector
from thfr.predictions.scale import ColourScale, ScaleBuilder
from thfr.runs.threshold import DEFAULT_RATE, Threshold


def good_scale(detector: Detector) -> ColourScale:
    """The colour scale of good images, from what the detector keeps of them alone: no image is needed; see
    :meth:`thfr.methods.Detector.good_maps`.

    Raises:
        InputError: the detector keeps too little of them.
    """
    maps = detector.good_maps()
    if maps is None:
        raise InputError(
            "good_scale: expected a detector that can score its own training images, got "
            f"{detector.config.label} with {detector.template_count} template(s)"
        )
    builder, images = ScaleBuilder(), 0
    for batch in maps:
        images += len(batch)
        for anomaly_map in batch.cpu().numpy():
            builder.add(anomaly_map)
    return builder.from_good(f"the highest score of {images} good training images, each as if it were new")


def calibrate(
    run: str | os.PathLike[str],
    images: str | os.PathLike[str] | None = None,
    rate: float = DEFAULT_RATE,
    *,
    device: str = "auto",
    progress: bool = False,
) -> Threshold:
    """Replace a run's threshold; see :class:`thfr.models.Threshold`.

    Args:
        run: folder of a finished training.
        images: folder of good images, with its sub-folders, that were not learnt from; None: the scores of
            the run's own threshold, for another rate.
        rate: share of good images that may be called bad.

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
        edge = (detector.size, detector.size)
        samples = load_dataset("folder", images).train
        good = load_images(samples, edge, progress=progress)
        threshold = detector.calibrate(good, rate, f"good images of {Path(images).name}")
    threshold.save(folder)
    return threshold
