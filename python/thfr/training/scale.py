"""Colour scale and threshold of a detector where no images were held out for them."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from thfr.errors import InputError
from thfr.methods import Detector
from thfr.predictions.scale import ColourScale, ScaleBuilder
from thfr.runs.threshold import Threshold


def good_scale(detector: Detector) -> ColourScale | None:
    """The colour scale of good images, from what the detector keeps of them alone: no image is needed; see
    :meth:`thfr.methods.Detector.good_maps`. None where it keeps too little of them.
    """
    maps = detector.good_maps()
    if maps is None:
        return None
    builder = ScaleBuilder(one for batch in maps for one in batch.cpu().numpy())
    what = "" if detector.config.model.tile_count == 1 else "tiles of "
    return builder.from_good(
        f"the highest score of {len(builder.peaks)} {what}good training images, each as if it were new"
    )


def calibrate_without_itself(detector: Detector, rate: float, names: Mapping[int, str] | None = None) -> None:
    """Set threshold and colour scale by training images, each scored as if it had not been learnt from.

    Args:
        rate: share of good images that the threshold may call bad.
        names: of a run on several categories: index of a training image -> the one that it is of.

    Raises:
        InputError: the detector cannot score them so (:attr:`thfr.config.RunConfig.leaves_out`), or a rate
            outside of (0, 1).
    """
    source = "training images, each scored without itself"
    every = ScaleBuilder()

    def threshold_of(indices: Tensor | None) -> Threshold:
        maps = detector.good_maps(indices) if detector.config.leaves_out else None
        if maps is None:
            raise InputError(f"calibrate: {detector.config.label} cannot score a training image as a new one")
        first = len(every.peaks)
        for batch in maps:
            for one in batch.cpu().numpy():
                every.add(one)
        return Threshold.from_scores(every.peaks[first:], rate, source)

    if detector.categories is None:
        detector.threshold = threshold_of(None)
    else:
        of = names or {}
        own = {name: torch.tensor([i for i in of if of[i] == name]) for name in detector.categories.names}
        thresholds = {name: threshold_of(indices) for name, indices in own.items()}
        detector.categories = detector.categories.with_thresholds(thresholds)
    detector.scale = every.from_good(f"the highest score of {len(every.peaks)} {source}")
