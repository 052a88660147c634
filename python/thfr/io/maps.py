"""Anomaly maps as TIFF files, bit for bit."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import tifffile

from thfr.errors import InputError
from thfr.io.files import atomic_path
from thfr.io.opening import DECODE_ERRORS, opened, what_is


def write_map(path: str | os.PathLike[str], anomaly_map: np.ndarray) -> None:
    """Write an anomaly map, float32 [H, W], as an uncompressed TIFF, bit for bit, whole or not at all.

    Raises:
        ValueError: not float32, not two-dimensional, empty, or holding a NaN.
    """
    if not isinstance(anomaly_map, np.ndarray) or anomaly_map.dtype != np.float32:
        kind = getattr(anomaly_map, "dtype", type(anomaly_map))
        raise ValueError(f"write_map: anomaly_map must be a float32 array, got {kind}")
    if anomaly_map.ndim != 2 or anomaly_map.size == 0:
        raise ValueError(f"write_map: anomaly_map must have shape [H, W], got {list(anomaly_map.shape)}")
    if np.isnan(anomaly_map).any():
        raise ValueError(f"write_map: anomaly_map holds {int(np.isnan(anomaly_map).sum())} NaN; for {path}")
    with atomic_path(path) as temporary:
        tifffile.imwrite(temporary, anomaly_map, photometric="minisblack", metadata=None)


def read_map(path: str | os.PathLike[str]) -> np.ndarray:
    """Read an anomaly map, any method's, from a TIFF as float32 [H, W].

    float32 comes back bit for bit; float16, uint8 and uint16 convert exactly; float64 is rounded to float32.
    Infinities keep their order and are allowed.

    Raises:
        InputError: missing or unreadable file, another number type or shape, a NaN, a float64 beyond float32.
    """
    file = Path(path)
    if not file.is_file():
        raise InputError(f"read_map: expected a TIFF file, got {file} ({what_is(file)})")
    try:
        values = np.asarray(tifffile.imread(file))
    except DECODE_ERRORS as error:
        if "imagecodecs" not in str(error):
            raise InputError(f"read_map: cannot read {file}: {type(error).__name__}: {error}") from error
        # tifffile leaves LZW and prediction to a package that may be absent; Pillow's libtiff knows them
        with opened(file, "read_map") as image:
            values = np.array(image)
    return checked_map(values, file)


def checked_map(values: np.ndarray, file: Path) -> np.ndarray:
    """The values of a file as :func:`read_map` gives them.

    Raises:
        InputError: another number type or shape, a NaN, a float64 beyond float32.
    """
    if values.dtype.name not in ("float32", "float64", "float16", "uint8", "uint16"):
        raise InputError(f"read_map: expected float pixels, got {values.dtype} in {file}")
    if values.ndim != 2 or values.size == 0:
        raise InputError(f"read_map: expected one [H, W] map, got shape {list(values.shape)} in {file}")
    if np.isnan(values.min()):
        raise InputError(f"read_map: {file} holds {int(np.isnan(values).sum())} NaN of {values.size} pixels")
    with np.errstate(over="ignore"):
        result = np.ascontiguousarray(values, dtype=np.float32)  # no copy of what is float32 already
    if values.dtype == np.float64 and (np.isinf(result) != np.isinf(values)).any():
        raise InputError(f"read_map: {file} holds float64 values beyond the range of float32")
    return result
