"""Load the native module without torch and NumPy, and run one kernel: the check of a wheel on a bare Python.

python tests/packaging/load_native.py [PATH OF THE MODULE]      (default: the installed thfr-ext's)
"""

from __future__ import annotations

import ctypes
import importlib.machinery
import importlib.metadata
import importlib.util
import sys
from types import ModuleType

FLOAT32 = 0  # thfr::DType


def installed() -> str:
    """The path of the module in the installed distribution."""
    suffixes = tuple(importlib.machinery.EXTENSION_SUFFIXES)
    for file in importlib.metadata.files("thfr-ext") or ():
        if file.parent.name == "thfr_ext" and file.name.startswith("_C") and file.name.endswith(suffixes):
            return str(file.locate())
    raise SystemExit("load_native: the installed thfr-ext holds no thfr_ext/_C")


def load(path: str) -> ModuleType:
    """The module at ``path``, without its package."""
    loader = importlib.machinery.ExtensionFileLoader("thfr_ext._C", path)
    spec = importlib.util.spec_from_file_location("thfr_ext._C", path, loader=loader)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    loader.exec_module(module)
    return module


def main() -> None:
    path = sys.argv[1] if len(sys.argv) > 1 else installed()
    native = load(path)
    x = (ctypes.c_float * 4)(3, 0, 4, 1)  # [1,2,1,2]: the vectors (3, 4) and (0, 1)
    y = (ctypes.c_float * 4)(4, 0, -3, 2)
    distance = (ctypes.c_float * 2)()
    features = [(ctypes.addressof(a), FLOAT32, (1, 2, 1, 2), (4, 2, 2, 1)) for a in (x, y)]
    native.cosine_distance(*features, 1e-8, (ctypes.addressof(distance), FLOAT32, (1, 1, 2), (2, 2, 1)), 1)
    found = [round(value, 6) for value in distance]
    if found != [1.0, 0.0]:  # orthogonal, parallel
        raise SystemExit(f"load_native: cosine_distance of {path}: expected [1.0, 0.0], got {found}")
    print(f"python {sys.version.split()[0]}: {path} loads; cosine_distance {found}")


if __name__ == "__main__":
    main()
