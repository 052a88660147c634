"""Up-sampling and Gaussian blur along one axis as small banded matrices, made once and cached."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from thfr_ext import _C

TRUNCATE = 4.0  #: standard deviations kept on each side, as in scipy.ndimage.gaussian_filter
LARGEST_SIGMA = 1e6
_ROWS_AT_ONCE = 256


def gaussian_taps(sigma: float) -> np.ndarray:  # [2r+1] float64
    """The normalised Gaussian of ``scipy.ndimage.gaussian_filter(sigma, truncate=4.0)``."""
    radius = int(TRUNCATE * sigma + 0.5)
    if radius == 0:
        return np.ones(1)
    taps = np.exp(-0.5 / (sigma * sigma) * np.arange(-radius, radius + 1, dtype=np.float64) ** 2)
    return taps / taps.sum()


def reflect(index: np.ndarray, size: int) -> np.ndarray:
    """Indices in [0, size) by half-sample symmetry (scipy's ``reflect``): -1 -> 0, size -> size - 1."""
    index = index % (2 * size)
    return np.minimum(index, 2 * size - 1 - index)


def _folded_taps(size: int, sigma: float) -> tuple[np.ndarray, np.ndarray]:
    """Offsets and weights of the blur, folded into one period of the reflected image if wider."""
    taps = gaussian_taps(sigma)
    offsets = np.arange(len(taps)) - len(taps) // 2
    if len(taps) > 2 * size:
        taps = np.bincount(offsets % (2 * size), weights=taps, minlength=2 * size)
        offsets = np.arange(2 * size)
    return offsets, taps


def _bilinear(source: int, size: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Left and right neighbour and the right one's weight, of torch's bilinear, align_corners=False."""
    at = np.maximum((np.arange(size) + 0.5) * (source / size) - 0.5, 0)
    left = np.minimum(at.astype(np.int64), source - 1)
    return left, np.minimum(left + 1, source - 1), at - left


def resample_blur(source: int, size: int, sigma: float) -> tuple[np.ndarray, np.ndarray]:
    """Up-sampling, then blur, as one banded matrix [size,source]: start [size], weights [size,n] float64."""
    left, right, fraction = _bilinear(source, size)
    offsets, taps = _folded_taps(size, sigma)
    starts, rows = [], []
    for begin in range(0, size, _ROWS_AT_ONCE):
        centre = np.arange(begin, min(begin + _ROWS_AT_ONCE, size))
        at = reflect(centre[:, None] + offsets, size)  # [rows,taps]
        low, high = left[at].min(1), right[at].max(1)
        band = np.zeros((len(at), int((high - low).max()) + 1))
        row = np.arange(len(at))[:, None]
        np.add.at(band, (row, left[at] - low[:, None]), taps * (1 - fraction[at]))
        np.add.at(band, (row, right[at] - low[:, None]), taps * fraction[at])
        starts.append(low)
        rows.append(band)
    return _same_width(np.concatenate(starts), rows, source)


def _same_width(start: np.ndarray, bands: list[np.ndarray], columns: int) -> tuple[np.ndarray, np.ndarray]:
    """Rows padded with zeros to one width, moved left where they would stick out."""
    width = max(band.shape[1] for band in bands)
    weights = np.concatenate([np.pad(band, ((0, 0), (0, width - band.shape[1]))) for band in bands])
    moved = np.minimum(start, columns - width)
    for row in np.flatnonzero(moved != start):  # the zeros at the end come to the front
        weights[row] = np.roll(weights[row], start[row] - moved[row])
    return moved, weights


def in_blocks(
    start: np.ndarray, weights: np.ndarray, columns: int, width: int
) -> tuple[np.ndarray, np.ndarray]:
    """The transpose of a banded matrix of so many columns, ``width`` of its rows to a block.

    Returns:
        start [blocks] and weights [blocks,n,width]: block k holds rows start[k] .. start[k] + n of the
        transpose.
    """
    rows, band = weights.shape
    blocks = -(-rows // width)
    row = np.arange(rows)
    first = np.minimum.reduceat(start, row[::width])
    n = int((np.maximum.reduceat(start, row[::width]) - first).max()) + band
    first = np.minimum(first, columns - min(n, columns))
    n = min(n, columns)
    blocked = np.zeros((blocks, n, width))
    at = start[:, None] - first[row // width][:, None] + np.arange(band)
    blocked[(row // width)[:, None], at, (row % width)[:, None]] = weights
    return first, blocked


Band = tuple[Tensor, Tensor]


@lru_cache(maxsize=128)
def row_band(source: int, size: int, sigma: float) -> Band:  # [size] int64, [size,n] fp32
    """:func:`resample_blur` for the native module (``BandedMatrix``)."""
    return _band(*resample_blur(source, size, sigma))


@lru_cache(maxsize=128)
def column_blocks(source: int, size: int, sigma: float) -> Band:  # [blocks] int64, [blocks,n,width] fp32
    """The transpose of :func:`row_band` for the native module (``BlockedMatrix``)."""
    return _band(*in_blocks(*resample_blur(source, size, sigma), source, _C.blocked_width))


def _band(start: np.ndarray, weights: np.ndarray) -> Band:
    return torch.from_numpy(start.astype(np.int64)), torch.from_numpy(weights.astype(np.float32))
