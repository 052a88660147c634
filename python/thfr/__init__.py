"""Anomaly detection in product images by Template-guided Hierarchical Feature Restoration (THFR, ICCV 2023).

>>> from thfr import THFR
>>> detector = THFR(size=256).fit("images/good")
>>> prediction = detector.predict("images/new")

The kernels underneath are a package of their own, :mod:`thfr_ext`.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from thfr.errors import InputError
    from thfr.estimator import THFR, Prediction

# Imported on first use: torch and timm take seconds, and `thfr --help` needs neither.
_LAZY = {"THFR": "thfr.estimator", "Prediction": "thfr.estimator", "InputError": "thfr.errors"}

__all__ = ["THFR", "InputError", "Prediction"]


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return getattr(import_module(_LAZY[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *_LAZY])
