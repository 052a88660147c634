"""How anomalous good images look to a detector: the measure for its verdicts, colours and outlines."""

from __future__ import annotations

import os
from pathlib import Path

import torch

import thfr_ext
from thfr.data import load_dataset, load_images
from thfr.errors import InputError
from thfr.models import Detector, Threshold
from thfr.models.threshold import DEFAULT_RATE
from thfr.visualization.scale import ColourScale, ScaleBuilder

_MOST = 64  # templates scored; enough to know the range, seconds on a CPU
_BATCH = 8


@torch.inference_mode()
def good_scale(detector: Detector) -> ColourScale:
    """The colour scale of good images, from the detector's template bank alone: no image is needed.

    The bank holds the features of good training images. Each of (at most 64 of) them is scored like a new
    image, with the template it would find if it were not in the bank itself.

    Raises:
        InputError: the detector has no bank (variants gl, gbn, lbn), or a bank of one image.
    """
    bank = detector.bank
    if bank is None or len(bank) < 2:
        held = "no template bank" if bank is None else "a template bank of a single image"
        raise InputError(f"good_scale: expected a detector with at least two templates, got {held}")
    places = torch.arange(0, len(bank), max(1, len(bank) // _MOST))[:_MOST]
    builder = ScaleBuilder()
    for chosen in places.split(_BATCH):
        features = bank.gather(chosen)
        templates = bank.retrieve(features, bank.rows[chosen], detector.config.model.template_count)
        restored = detector.network(features, templates)
        maps, _ = thfr_ext.anomaly_map(
            features, restored, (detector.size, detector.size), sigma=4.0, combine="sum"
        )
        for anomaly_map in maps.cpu().numpy():
            builder.add(anomaly_map)
    images = f"{len(places)} good training images, each without itself as a template"
    return builder.from_good(f"the highest score of {images}")


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
