"""Findings: the connected parts of an anomaly map above a limit, as objects with box, area and position."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from thfr.errors import InputError
from thfr.plain import Plain


@dataclass(frozen=True)
class Finding(Plain):
    """One 8-connected component of an anomaly map above the limit.

    Pixels count from the upper left corner; the millimetre fields are None without a scale.
    """

    x: int
    """Left edge of the bounding box in pixels."""
    y: int
    """Upper edge of the bounding box in pixels."""
    width: int
    height: int
    area: int
    """Pixels of the component."""
    peak: float
    """Highest value of the map in it."""
    peak_x: int
    peak_y: int
    """Pixel of the peak (the first in reading order, where there are several)."""
    mean: float
    """Mean of the map over its pixels."""
    centre_x: float
    centre_y: float
    """Centre of gravity of its pixels, not weighted."""
    width_mm: float | None = None
    height_mm: float | None = None
    area_mm2: float | None = None


def find(
    anomaly_map: np.ndarray,  # float32 [H,W]
    threshold: float,
    *,
    min_area: int = 1,
    region: np.ndarray | None = None,  # bool [H,W]
    ignore: np.ndarray | None = None,  # bool [H,W]
    pixels_per_mm: float | None = None,
) -> list[Finding]:
    """The components of the map that lie strictly above ``threshold``, the highest peak first.

    Pixels outside of ``region`` and inside of ``ignore`` count as not anomalous: a component that reaches
    into them is cut off there, and one that they divide becomes several.

    Args:
        min_area: components of fewer pixels are left out.
        region: where to look; None: everywhere.
        ignore: where not to look; None: nowhere.
        pixels_per_mm: scale of the image, for the fields in millimetres.

    Raises:
        InputError: a map that is not [H,W] or holds a NaN, masks of another size or number type, a threshold
            that is not finite, an area below 1 or a scale that is not a positive number.
    """
    _check(anomaly_map, threshold, min_area, pixels_per_mm)
    above = anomaly_map > threshold
    if region is not None:
        above &= _mask("region", region, anomaly_map)
    if ignore is not None:
        above &= ~_mask("ignore", ignore, anomaly_map)
    if not above.any():
        return []
    from skimage.measure import label, regionprops  # takes half a second to import

    # only the part that holds something is labelled: a map may have 100 million pixels
    rows, columns = np.flatnonzero(above.any(1)), np.flatnonzero(above.any(0))
    corner = int(rows[0]), int(columns[0])
    part = slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)
    components = regionprops(label(above[part], connectivity=2), intensity_image=anomaly_map[part])
    found = [_finding(one, corner, pixels_per_mm) for one in components if one.area >= min_area]
    return sorted(found, key=lambda finding: (-finding.peak, finding.y, finding.x))


def _finding(part: Any, corner: tuple[int, int], pixels_per_mm: float | None) -> Finding:
    top, left, bottom, right = (edge + corner[index % 2] for index, edge in enumerate(part.bbox))
    values = np.where(part.image, part.image_intensity, -np.inf)
    row, column = np.unravel_index(int(values.argmax()), values.shape)
    centre_y, centre_x = (at + start for at, start in zip(part.centroid, corner, strict=True))
    width, height, area = right - left, bottom - top, int(part.area)
    in_mm: dict[str, float] = {}
    if pixels_per_mm is not None:
        in_mm = {
            "width_mm": width / pixels_per_mm,
            "height_mm": height / pixels_per_mm,
            "area_mm2": area / pixels_per_mm**2,
        }
    return Finding(
        x=int(left),
        y=int(top),
        width=int(width),
        height=int(height),
        area=area,
        peak=float(values.max()),
        peak_x=int(left + column),
        peak_y=int(top + row),
        mean=float(values[part.image].mean(dtype=np.float64)),
        centre_x=float(centre_x),
        centre_y=float(centre_y),
        **in_mm,
    )


def _check(anomaly_map: np.ndarray, threshold: float, min_area: int, pixels_per_mm: float | None) -> None:
    if not isinstance(anomaly_map, np.ndarray) or anomaly_map.ndim != 2 or anomaly_map.size == 0:
        got = list(getattr(anomaly_map, "shape", [])) or type(anomaly_map).__name__
        raise InputError(f"find: anomaly_map: expected an array [H,W], got {got}")
    if anomaly_map.dtype.kind != "f" or np.isnan(anomaly_map).any():
        got = "a NaN" if anomaly_map.dtype.kind == "f" else str(anomaly_map.dtype)
        raise InputError(f"find: anomaly_map: expected floating-point numbers, got {got}")
    if not math.isfinite(threshold):
        raise InputError(f"find: threshold: expected a finite number, got {threshold}")
    if min_area < 1:
        raise InputError(f"find: min_area: expected at least 1 pixel, got {min_area}")
    if pixels_per_mm is not None and not 0 < pixels_per_mm < math.inf:
        raise InputError(f"find: pixels_per_mm: expected a positive number, got {pixels_per_mm}")


def _mask(name: str, mask: np.ndarray, anomaly_map: np.ndarray) -> np.ndarray:
    if not isinstance(mask, np.ndarray) or mask.dtype != np.bool_ or mask.shape != anomaly_map.shape:
        got = f"{mask.dtype} {list(mask.shape)}" if isinstance(mask, np.ndarray) else type(mask).__name__
        raise InputError(f"find: {name}: expected bool {list(anomaly_map.shape)} as the map, got {got}")
    return mask
