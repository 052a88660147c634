"""Alternatives that may be installed or not: one place that asks.

NumPy, SciPy and PyTorch are always there; the rest is used where it imports.
"""

from __future__ import annotations

import importlib
from importlib import metadata
from types import ModuleType

from thfr.backbones.torchvision_guard import guard_torchvision

#: module -> distribution
OPTIONAL = {
    "faiss": "faiss-cpu",
    "torchmetrics": "torchmetrics",
    "sklearn": "scikit-learn",
    "pyaupro": "pyaupro",
    "anomalib": "anomalib",
    "cc3d": "connected-components-3d",
}


def load(name: str) -> ModuleType | None:
    """The module, or None if it is not installed or does not load."""
    guard_torchvision()  # some of them import torchvision
    try:
        return importlib.import_module(name)
    except (ImportError, RuntimeError, OSError):
        return None


def versions() -> dict[str, str]:
    found = {}
    for name, distribution in OPTIONAL.items():
        try:
            found[name] = metadata.version(distribution)
        except metadata.PackageNotFoundError:
            found[name] = "not installed"
    return found
