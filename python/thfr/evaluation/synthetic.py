"""How well a detector finds synthetic anomalies in good images: for choosing settings without test images."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from thfr.data.planted import LOGICAL, PLANTED, plant_all
from thfr.errors import InputError
from thfr.methods import Detector
from thfr_ext import auroc
from thfr_ext.metrics import AUPRO

PRO_LIMIT = 0.3


def evaluate_synthetic(
    detector: Detector,
    images: Tensor,  # uint8 [N,3,H,W], good, of the detector's size, not learnt from
    *,
    batch_size: int = 8,
) -> dict[str, Any]:
    """Figures of the good images against synthetic anomalies pasted into them (:mod:`thfr.data.planted`),
    at input size.

    Returns:
        From 0 to 1: ``image_auroc``: the mean over all kinds, ``logical`` and ``structural`` (means over the
        kinds of each) and ``kinds``; ``au_pro``: AU-PRO at FPR 0.3 of all images with anomalies together
        with the good ones. They rank settings; they say nothing about how real defects will be found.

    Raises:
        InputError: fewer than two images, or images of another size.
    """
    expected = (3, *detector.size)
    if images.dtype != torch.uint8 or images.shape[1:] != expected or len(images) < 2:
        raise InputError(
            f"evaluate_synthetic: images: expected uint8 [N,{', '.join(map(str, expected))}] with N >= 2, "
            f"got {images.dtype} {list(images.shape)}"
        )
    pictures = list(images.permute(0, 2, 3, 1).numpy())
    planted, masks, kinds = plant_all(pictures)
    metric = AUPRO(limit=PRO_LIMIT)

    def scored(given: Sequence[np.ndarray], truth: Sequence[np.ndarray]) -> Iterator[Tensor]:
        for start in range(0, len(given), batch_size):
            batch = torch.from_numpy(np.stack(given[start : start + batch_size])).permute(0, 3, 1, 2)
            maps, scores = detector.score_prepared(batch.contiguous())
            metric.update(maps.cpu(), torch.from_numpy(np.stack(truth[start : start + batch_size])))
            yield scores.cpu()

    good = torch.cat(list(scored(pictures, [np.zeros(expected[1:], dtype=bool)] * len(pictures))))
    bad = torch.cat(list(scored(planted, masks)))
    figures = {kind: _auroc(good, bad[[one == kind for one in kinds]]) for kind in PLANTED}
    logical = [figures[kind] for kind in LOGICAL]
    structural = [figures[kind] for kind in PLANTED if kind not in LOGICAL]
    return {
        "image_auroc": float(np.mean(list(figures.values()))),
        "logical": float(np.mean(logical)),
        "structural": float(np.mean(structural)),
        "kinds": figures,
        "au_pro": float(metric.compute()),
    }


def _auroc(good: Tensor, bad: Tensor) -> float:
    labels = torch.cat([torch.zeros(len(good), dtype=torch.bool), torch.ones(len(bad), dtype=torch.bool)])
    return float(auroc(torch.cat([good, bad]), labels))
