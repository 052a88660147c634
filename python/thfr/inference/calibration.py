"""How anomalous good images look to a detector: the measure for its colours and its outlines."""

from __future__ import annotations

import torch

import thfr_ext
from thfr.errors import InputError
from thfr.models import Detector
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
        templates = bank.retrieve(features, exclude=bank.rows[chosen])
        restored = detector.network(features, templates)
        maps, _ = thfr_ext.anomaly_map(
            features, restored, (detector.size, detector.size), sigma=4.0, combine="sum"
        )
        for anomaly_map in maps.cpu().numpy():
            builder.add(anomaly_map)
    return builder.from_good(f"{len(places)} good training images, each without itself as a template")
