"""The picture of an inspection."""

from __future__ import annotations

import numpy as np

from thfr.predictions.scale import ScaleBuilder
from thfr.visualization.overlay import overlay


def heat_map(
    image: np.ndarray,  # uint8 [H,W,3]
    anomaly_map: np.ndarray,  # float32 [H,W]
    limit: float | None,
) -> np.ndarray:
    """The map over its image, uint8 [H,W,3]: colours begin at the map's median, the outline is at the limit;
    without a limit both are the map's own.
    """
    scale = ScaleBuilder([anomaly_map]).from_mixed("this image")
    if limit is not None:
        scale = scale.with_limit(limit, "the threshold")
    return overlay(image, anomaly_map, scale)
