"""Anomaly maps on disk, of any method, in the tree of the official evaluation tools."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import tifffile

from thfr.data.base import Dataset, Sample
from thfr.errors import InputError
from thfr.io.maps import checked_map, read_map
from thfr.io.names import result_name
from thfr.io.opening import DECODE_ERRORS
from thfr.predictions.sources import map_stem

_SHOWN = 10


def open_maps(folder: str | os.PathLike[str], dataset: Dataset) -> Callable[[Sample], np.ndarray]:
    """A function that reads the map of a test image from ``folder/<category>/test/<kind>/<id>.tiff``.

    The names of all maps are checked here; each file is opened once, when its map is asked for. The function
    may be called from several threads.

    Returns:
        sample -> float32 [H,W] at the image's native size. It raises InputError for a file that is no float
        map of one channel and page and of its image's size, or holds a NaN.

    Raises:
        InputError: the folder is not there; a map is missing or unexpected. Every kind of problem is listed
            with the files it concerns.
    """
    base = Path(folder) / dataset.category / "test"
    if not base.is_dir():
        raise InputError(
            f"evaluate: maps: expected the folder {base} (<maps>/<category>/test), which does not exist"
        )
    expected = {
        Path(folder) / result_name(map_stem(dataset, sample), ".tiff"): sample for sample in dataset.test
    }
    present = {path for path in base.rglob("*") if not path.name.startswith(".") and path.is_file()}
    problems = listed("missing", [str(path) for path in sorted(expected.keys() - present)])
    problems += listed("unexpected", [str(path) for path in sorted(present - expected.keys())])
    if problems:
        raise InputError(
            f"evaluate: maps: expected exactly one map for each of the {len(expected)} test images of "
            f"{dataset.category}\n" + "\n".join(problems)
        )
    paths = {sample: path for path, sample in expected.items()}

    return lambda sample: _read(paths[sample], dataset, sample)


def _read(path: Path, dataset: Dataset, sample: Sample) -> np.ndarray:
    """One map, float32 [H,W]; its number type and size are checked by the header first."""
    try:
        with tifffile.TiffFile(path) as tiff:
            problem = _header_problem(path, tiff, dataset, sample)
            values = None if problem else np.asarray(tiff.asarray())
    except DECODE_ERRORS as error:
        if isinstance(error, InputError):
            raise
        if "imagecodecs" in str(error):  # a compression that tifffile leaves to a package which is not here
            return read_map(path)
        why = f"{type(error).__name__}: {error}"
        raise InputError(f"evaluate: maps: {path} cannot be read as TIFF: {why}") from error
    if values is None:
        raise InputError(f"evaluate: maps: {problem}")
    return checked_map(values, path)


def _header_problem(path: Path, tiff: tifffile.TiffFile, dataset: Dataset, sample: Sample) -> str | None:
    shapes, dtype = [series.shape for series in tiff.series], tiff.series[0].dtype
    if dtype is None or dtype.kind != "f":
        return f"{path} holds {dtype}, expected floating-point pixels"
    size = dataset.size(sample)
    if len(shapes) > 1 or len(shapes[0]) != 2:
        held = " and ".join(str(list(shape)) for shape in shapes)
        return f"{path} holds shape {held}, expected one channel [{size[0]},{size[1]}]"
    if shapes[0] != size:
        return (
            f"{path} is {shapes[0][1]}x{shapes[0][0]} (W x H), its image {sample.path} is {size[1]}x{size[0]}"
        )
    return None


def listed(what: str, problems: Sequence[str]) -> list[str]:
    """Lines that say how many problems there are, and the first of them."""
    if not problems:
        return []
    more = [f"    and {len(problems) - _SHOWN} more"] if len(problems) > _SHOWN else []
    return [f"  {what}: {len(problems)}", *(f"    {problem}" for problem in problems[:_SHOWN]), *more]
