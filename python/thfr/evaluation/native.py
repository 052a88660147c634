"""The native module without torch: an evaluation of files needs no tensor, and importing torch takes longer
than all of its figures.
"""

from __future__ import annotations

import importlib.machinery
import importlib.util
import os
import sys
from typing import Any

import numpy as np

from thfr.data.parallel import usable_cpus

_NAME = "thfr_ext._C"
_CODES = {"float32": 0, "float64": 1, "bool": 4, "int64": 5}

View = tuple[int, int, tuple[int, ...], tuple[int, ...]]


def native_module() -> Any:
    """``thfr_ext._C``; the package around it, which registers the operators with torch, is not imported."""
    if "thfr_ext" in sys.modules or _NAME in sys.modules:
        return importlib.import_module(_NAME) if "thfr_ext" in sys.modules else sys.modules[_NAME]
    package = importlib.util.find_spec("thfr_ext")
    places = None if package is None else package.submodule_search_locations
    spec = importlib.machinery.PathFinder.find_spec(_NAME, places)
    if spec is None or spec.loader is None:
        return importlib.import_module(_NAME)  # which says what is wrong
    module = importlib.util.module_from_spec(spec)
    sys.modules[_NAME] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[_NAME]
        raise
    return module


def view(array: np.ndarray) -> View:
    """The tuple that the native module takes for an array. The caller keeps the array alive."""
    strides = tuple(step // array.itemsize for step in array.strides)
    return array.ctypes.data, _CODES[array.dtype.name], array.shape, strides


def thread_count() -> int:
    """Threads of the sweeps: ``OMP_NUM_THREADS``, or one for each usable processor."""
    wanted = os.environ.get("OMP_NUM_THREADS", "")
    return int(wanted) if wanted.isdigit() and int(wanted) > 0 else usable_cpus()
