"""The colour scale of a detector that no held-out images have set."""

from __future__ import annotations

from thfr.errors import InputError
from thfr.methods import Detector
from thfr.predictions.scale import ColourScale, ScaleBuilder


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
