"""Figures over a region of interest: what lies outside of it is neither a defect nor a false alarm."""

from __future__ import annotations

import numpy as np

from thfr.data import Regions


def within(
    anomaly_map: np.ndarray,  # float32 [H,W]
    regions: Regions,
    inside: np.ndarray,  # bool [H,W]
) -> tuple[np.ndarray, Regions]:
    """The pixels that count, in a row: the map [1,K], and the parts of the image's regions among them
    [R,1,K], without those of which nothing is left. A part saturates at its own area at the latest.
    """
    masks = regions.masks[:, inside]
    areas = masks.sum(1)
    kept = areas > 0
    saturations = tuple(
        min(full, int(area))
        for full, area, left in zip(regions.saturations, areas, kept, strict=True)
        if left
    )
    return anomaly_map[inside][None], Regions(masks[kept][:, None], saturations)
