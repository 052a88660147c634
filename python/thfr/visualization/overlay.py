"""Heat maps over images: where the anomaly is, readable for colour-blind eyes too."""

from __future__ import annotations

from functools import cache

import numpy as np
from matplotlib import colormaps
from scipy.ndimage import binary_dilation, binary_erosion

from thfr.predictions.scale import ColourScale

COLOUR_MAP = "inferno"
"""Perceptually uniform, in order of lightness, told apart with every form of colour blindness."""
COLOUR_RANGE = (0.25, 0.92)
"""The part of the colour map in use: its black end would read as shadow, its pale end as a highlight."""
FINDING_COLOUR = (255, 255, 255)
TRUTH_COLOUR = (0, 229, 255)  # cyan, which inferno does not hold

_STRONGEST = 0.75  # the share of the heat colour where the map is at the scale's end
_DESATURATION = 0.6


@cache
def heat_colours() -> np.ndarray:
    """The colours from the scale's low to its high end, float32 [256,3], 0 to 255."""
    return (colormaps[COLOUR_MAP](np.linspace(*COLOUR_RANGE, 256))[:, :3] * 255).astype(np.float32)


def overlay(
    image: np.ndarray,  # uint8 [H,W,3]
    anomaly_map: np.ndarray,  # float32 [H,W]
    scale: ColourScale,
    truth: np.ndarray | None = None,  # bool [H,W]
) -> np.ndarray:
    """Draw the heat map over the image, whose own colours are muted: uint8 [H,W,3].

    A white line encloses what lies above ``scale.threshold``; a cyan line encloses the ground truth.

    Raises:
        ValueError: sizes or number types do not fit.
    """
    _check(image, anomaly_map, truth)
    heat = scale.relative(anomaly_map)
    alpha = (_STRONGEST * heat**0.75)[..., None]
    colours = heat_colours()[(heat * 255).round().astype(np.uint8)]
    mixed = (1 - alpha) * _muted(image) + alpha * colours
    result = mixed.round().astype(np.uint8)
    draw_outline(result, anomaly_map > scale.threshold, FINDING_COLOUR)
    if truth is not None:
        draw_outline(result, truth, TRUTH_COLOUR)
    return result


def outlined(image: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """A copy of the image, uint8 [H,W,3], with the ground truth, bool [H,W], outlined in cyan."""
    result = image.copy()
    draw_outline(result, truth, TRUTH_COLOUR)
    return result


def draw_outline(picture: np.ndarray, mask: np.ndarray, colour: tuple[int, int, int]) -> None:
    """Draw the inner border of ``mask``, bool [H,W], into ``picture``, uint8 [H,W,3], with a dark rim
    around it.

    The line's width grows with the picture, so that it survives being scaled down. Where the mask touches
    the edge of the picture the line runs along that edge.
    """
    if not mask.any():
        return
    width = max(1, round(max(mask.shape) / 200))
    inner = mask & ~binary_erosion(mask, iterations=width, border_value=0)
    rim = binary_dilation(mask, iterations=max(1, width // 2)) & ~mask
    picture[rim] = (picture[rim] * 0.35).astype(np.uint8)
    picture[inner] = colour


def _muted(image: np.ndarray) -> np.ndarray:
    """The image as float32 [H,W,3] with most of its colour gone."""
    pixels = image.astype(np.float32)
    grey = pixels @ np.array([0.299, 0.587, 0.114], dtype=np.float32)
    return pixels * (1 - _DESATURATION) + grey[..., None] * _DESATURATION


def _check(image: np.ndarray, anomaly_map: np.ndarray, truth: np.ndarray | None) -> None:
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
        raise ValueError(f"overlay: image must be uint8 [H,W,3], got {image.dtype} {list(image.shape)}")
    if anomaly_map.dtype != np.float32 or anomaly_map.shape != image.shape[:2]:
        raise ValueError(
            f"overlay: anomaly_map must be float32 {list(image.shape[:2])} as the image, "
            f"got {anomaly_map.dtype} {list(anomaly_map.shape)}"
        )
    if truth is not None and (truth.dtype != np.bool_ or truth.shape != image.shape[:2]):
        raise ValueError(
            f"overlay: truth must be bool {list(image.shape[:2])} as the image, "
            f"got {truth.dtype} {list(truth.shape)}"
        )
