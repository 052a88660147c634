"""How well a detector finds synthetic anomalies in good images: for choosing settings without test images."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from thfr.data.base import components
from thfr.data.planted import LOGICAL, PLANTED, plant_all
from thfr.errors import InputError
from thfr.evaluation.localisation import Question, TestPixels
from thfr.evaluation.region import within
from thfr.io.framing import counted
from thfr.methods import Detector
from thfr_ext import auroc

PRO_LIMIT = 0.3


def evaluate_synthetic(
    detector: Detector,
    images: Tensor,  # uint8 [N,3,H,W], good, of the detector's size, not learnt from
    sizes: Sequence[tuple[int, int]] | None = None,
    *,
    batch_size: int = 8,
) -> dict[str, Any]:
    """Figures of the good images against synthetic anomalies pasted into them (:mod:`thfr.data.planted`),
    at input size. Anomalies lie, and pixels count, within the region of interest and the image's part of a
    letterboxed input only.

    Args:
        sizes: (height, width) of each image before it was prepared, see
            :meth:`thfr.methods.Detector.score_prepared`.

    Returns:
        From 0 to 1: ``image_auroc``: the mean over all kinds, ``logical`` and ``structural`` (means over the
        kinds of each) and ``kinds``; ``au_pro``: AU-PRO at FPR 0.3 of all images with anomalies together
        with the good ones. They rank settings; they say nothing about how real defects will be found.

    Raises:
        InputError: fewer than two images, images of another size, or a region too small for any anomaly.
    """
    expected = (3, *detector.size)
    if images.dtype != torch.uint8 or images.shape[1:] != expected or len(images) < 2:
        raise InputError(
            f"evaluate_synthetic: images: expected uint8 [N,{', '.join(map(str, expected))}] with N >= 2, "
            f"got {images.dtype} {list(images.shape)}"
        )
    pictures = list(images.permute(0, 2, 3, 1).numpy())
    options = detector.inputs.options
    everywhere = np.ones(detector.size, dtype=bool)
    inside = []
    for number in range(len(images)):
        native = None if sizes is None else sizes[number]
        mask = counted(native, detector.size, options.fit, options.region)
        inside.append(everywhere if mask is None else mask)
    planted, masks, kinds = plant_all(pictures, inside=inside)
    every, truth = pictures + planted, [~everywhere] * len(images) + masks
    pixels, scores = TestPixels(), []
    for start in range(0, len(every), batch_size):
        numbers = range(start, min(start + batch_size, len(every)))
        batch = torch.from_numpy(np.stack(every[start : numbers.stop])).permute(0, 3, 1, 2).contiguous()
        native_sizes = None if sizes is None else [sizes[number % len(images)] for number in numbers]
        maps, values = detector.score_prepared(batch, native_sizes)
        scores.append(values.cpu())
        for number, single in zip(numbers, maps.cpu().numpy(), strict=True):
            row, parts = within(single, components(truth[number]), inside[number % len(images)])
            pixels.add(number, "any", row, parts)
    good, bad = torch.cat(scores).split([len(pictures), len(planted)])
    of_pixels = pixels.figures([Question(("any",), "area", (PRO_LIMIT,))])
    figures = {kind: _auroc(good, bad[[one == kind for one in kinds]]) for kind in PLANTED}
    logical = [figures[kind] for kind in LOGICAL]
    structural = [figures[kind] for kind in PLANTED if kind not in LOGICAL]
    return {
        "image_auroc": float(np.mean(list(figures.values()))),
        "logical": float(np.mean(logical)),
        "structural": float(np.mean(structural)),
        "kinds": figures,
        "au_pro": of_pixels.areas[0][PRO_LIMIT],
    }


def _auroc(good: Tensor, bad: Tensor) -> float:
    labels = torch.arange(len(good) + len(bad)) >= len(good)
    return float(auroc(torch.cat([good, bad]), labels))
