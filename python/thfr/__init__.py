from __future__ import annotations

from typing import TYPE_CHECKING

from thfr.lazy import lazy_exports

if TYPE_CHECKING:
    from thfr.errors import InputError
    from thfr.inference.estimator import THFR, Prediction

# Imported on first use: torch and timm take seconds, and `thfr --help` needs neither.
__getattr__, __dir__ = lazy_exports(
    __name__, {"errors": ("InputError",), "inference.estimator": ("THFR", "Prediction")}
)

__all__ = ["THFR", "InputError", "Prediction"]
