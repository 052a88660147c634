"""Let timm import where torchvision's compiled operators do not fit the installed torch.

timm imports torchvision for image transforms that ``thfr`` never uses. Beside a CPU build of torch the
default torchvision wheel cannot load its operators, and registering fake kernels for them then fails with
"operator torchvision::nms does not exist", which would take the whole backbone package down with it.
"""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import torch

_REGISTRATIONS = "torchvision._meta_registrations"


def torchvision_operators_load() -> bool:
    """True if torchvision is absent, already imported, or its compiled operators fit this torch."""
    if "torchvision" in sys.modules:
        return True
    spec = importlib.util.find_spec("torchvision")
    if spec is None or spec.origin is None:
        return True
    libraries = sorted(Path(spec.origin).parent.glob("_C*.so")) + sorted(
        Path(spec.origin).parent.glob("_C*.pyd")
    )
    for library in libraries:
        try:
            torch.ops.load_library(str(library))
            return True
        except (ImportError, OSError):
            continue
    return False


def guard_torchvision() -> None:
    """Put an empty module where torchvision would register fake kernels of operators that do not exist."""
    if not torchvision_operators_load():
        sys.modules.setdefault(_REGISTRATIONS, ModuleType(_REGISTRATIONS))
