"""Anomaly maps on disk, of any method, in the tree of the official evaluation tools."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import tifffile

from thfr.data import Dataset, Sample
from thfr.errors import InputError
from thfr.io import read_map, result_name
from thfr.predictions.sources import map_stem

_SHOWN = 10


def open_maps(folder: str | os.PathLike[str], dataset: Dataset) -> Callable[[Sample], np.ndarray]:
    """A function that reads the map of a test image from ``folder/<category>/test/<kind>/<id>.tiff``.

    Names, sizes and number types of all maps are checked here, from the files' headers, so that a long
    evaluation does not fail at its end; pixels are read later, one map a call.

    Returns:
        sample -> float32 [H,W] at the image's native size; a NaN in the file raises InputError when it is
        read.

    Raises:
        InputError: the folder is not there; a map is missing, unexpected, not float, of several channels or
            pages, or not of its image's size. Every kind of problem is listed with the files it concerns.
    """
    base = Path(folder) / dataset.category / "test"
    if not base.is_dir():
        raise InputError(
            f"evaluate: maps: expected the folder {base} (<maps>/<category>/test), which does not exist"
        )
    expected = {
        Path(folder) / result_name(map_stem(dataset, sample), ".tiff"): sample for sample in dataset.test
    }
    present = {path for path in base.rglob("*") if path.is_file() and not path.name.startswith(".")}
    problems = _listed("missing", [str(path) for path in sorted(expected.keys() - present)])
    problems += _listed("unexpected", [str(path) for path in sorted(present - expected.keys())])
    wrong = (_header_problem(path, dataset, sample) for path, sample in expected.items() if path in present)
    problems += _listed("unusable", [problem for problem in wrong if problem is not None])
    if problems:
        raise InputError(
            f"evaluate: maps: expected exactly one map for each of the {len(expected)} test images of "
            f"{dataset.category}\n" + "\n".join(problems)
        )
    paths = {sample: path for path, sample in expected.items()}
    return lambda sample: read_map(paths[sample])


def _listed(what: str, problems: list[str]) -> list[str]:
    if not problems:
        return []
    more = [f"    and {len(problems) - _SHOWN} more"] if len(problems) > _SHOWN else []
    return [f"  {what}: {len(problems)}", *(f"    {problem}" for problem in problems[:_SHOWN]), *more]


def _header_problem(path: Path, dataset: Dataset, sample: Sample) -> str | None:
    """What is wrong with a map's number type or size, from its header; None if nothing is."""
    try:
        with tifffile.TiffFile(path) as tiff:
            shapes, dtype = [series.shape for series in tiff.series], tiff.series[0].dtype
    except (OSError, ValueError, IndexError, KeyError, TypeError) as error:
        return f"{path} cannot be read as TIFF: {type(error).__name__}: {error}"
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
