"""Every method behind one interface, THFR being one of them.

A method is a :class:`Detector`: fitted by :func:`thfr.training.train` on good images, scoring images, saved
to and loaded from a run folder. Its settings are a subclass of :class:`thfr.config.RunConfig`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from thfr.lazy import lazy_exports

if TYPE_CHECKING:
    from thfr.methods.base import Detector, Scores
    from thfr.methods.common.context import FitContext, resolve_device
    from thfr.methods.registry import (
        config_class,
        config_from_values,
        config_from_yaml,
        detector_class,
        method_names,
        read_config,
        register_method,
    )

# Imported on first use: the names of methods are known without torch.
__getattr__, __dir__ = lazy_exports(
    __name__,
    {
        "base": ("Detector", "Scores"),
        "common.context": ("FitContext", "resolve_device"),
        "registry": (
            "config_class",
            "config_from_values",
            "config_from_yaml",
            "detector_class",
            "method_names",
            "read_config",
            "register_method",
        ),
    },
)

__all__ = [
    "Detector",
    "FitContext",
    "Scores",
    "config_class",
    "config_from_values",
    "config_from_yaml",
    "detector_class",
    "method_names",
    "read_config",
    "register_method",
    "resolve_device",
]
