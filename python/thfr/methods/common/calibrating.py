"""What is found on good images that training has not seen: scores, colours, features, and of a run on several
categories what each of them looks like. A detector is a :class:`thfr.methods.Detector`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import Tensor

from thfr.data.mapped import give_back
from thfr.errors import InputError
from thfr.methods.common.hooks import image_means, observed_features
from thfr.methods.common.tiles import tiles_of
from thfr.predictions.scale import ColourScale, ScaleBuilder
from thfr.runs.categories import Categories
from thfr.runs.reference import FeatureReference
from thfr.runs.threshold import Threshold

_BATCH = 8


@dataclass(frozen=True)
class GoodImages:
    """Of good images: what :func:`measure` gives."""

    scores: list[float]
    maps: ScaleBuilder
    reference: FeatureReference | None

    def scale(self, source: str) -> ColourScale:
        """The colour scale of their maps; ``source``: which images they are, in words."""
        return self.maps.from_good(f"the highest score of {len(self.scores)} {source}")


def measure(
    detector: Any,
    images: Tensor,  # uint8 [N,3,H,W], prepared
    batch_size: int = _BATCH,
    sizes: Sequence[tuple[int, int]] | None = None,
) -> GoodImages:
    """Score good images; ``sizes`` as of :meth:`thfr.methods.Detector.score_prepared`."""
    scores: list[float] = []
    builder = ScaleBuilder()
    with observed_features() as means:
        for start in range(0, len(images), batch_size):
            some = slice(start, start + batch_size)
            maps, values = detector.score_prepared(images[some], None if sizes is None else sizes[some])
            scores += values.tolist()
            for anomaly_map in maps.cpu().numpy():
                builder.add(anomaly_map)
            give_back(images)
    observed = image_means(means, detector.config.model.tile_count)
    return GoodImages(scores, builder, None if observed is None else FeatureReference.of(observed))


def find_categories(
    detector: Any,
    images: Tensor,  # uint8 [N,3,H,W], prepared, learnt from
    names: Sequence[str],
) -> Categories:
    """What tells the categories of a run apart: one pass of the backbone over its training images.

    Raises:
        InputError: the method uses no backbone.
    """
    parts = []
    for start in range(0, len(images), _BATCH):
        with observed_features() as means:
            for tile in tiles_by_place(images[start : start + _BATCH], detector):
                detector.features(tile)
        parts.append(np.asarray(image_means(means, detector.config.model.tile_count)))
        give_back(images)
    return Categories.of(np.concatenate(parts), names)


def tiles_by_place(
    images: Tensor,  # uint8 [B,3,H,W], prepared
    detector: Any,
) -> list[Tensor]:  # uint8 [B,3,h,w], one a place
    """The tiles of images, those of a place together, as they are scored."""
    count = detector.config.model.tile_count
    tiles = tiles_of(images, detector.config.model)
    return [tiles[place::count] for place in range(count)]


def calibrate_categories(
    detector: Any,
    images: Tensor,  # uint8 [N,3,H,W], good, not seen by training
    names: Sequence[str],
    rate: float,
    source: str,
    sizes: Sequence[tuple[int, int]] | None = None,
) -> None:
    """Set the threshold of each category that ``names``, one an image, tell of, by its own images; colour
    scale and features of the run by all of them where they are of all categories.

    Args:
        rate, source: as of :meth:`thfr.methods.Detector.calibrate`.

    Raises:
        InputError: the run is on one category, or a name is none of its.
    """
    known = detector.categories
    if known is None:
        raise InputError("calibrate: category: expected a run on several categories, this one is on one")
    good = measure(detector, images, sizes=sizes)
    of = {
        name: [score for score, own in zip(good.scores, names, strict=True) if own == name]
        for name in set(names)
    }
    thresholds = {name: Threshold.from_scores(scores, rate, source) for name, scores in of.items()}
    detector.categories = known.with_thresholds(thresholds)
    if set(of) == set(known.names):
        detector.scale, detector.reference = good.scale(source), good.reference
