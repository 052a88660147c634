"""Which methods there are: names, configurations and detectors, imported when they are asked for."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from thfr.config import RunConfig
from thfr.errors import InputError
from thfr.methods.base import Detector

METHODS: dict[str, tuple[str, str, str]] = {
    "thfr": ("thfr.methods.thfr", "THFRConfig", "THFRDetector"),
    "spade": ("thfr.methods.spade", "SPADEConfig", "SPADEDetector"),
    "padim": ("thfr.methods.padim", "PaDiMConfig", "PaDiMDetector"),
    "patchcore": ("thfr.methods.patchcore", "PatchCoreConfig", "PatchCoreDetector"),
    "rd4ad": ("thfr.methods.rd4ad", "RD4ADConfig", "RD4ADDetector"),
    "student_teacher": ("thfr.methods.student_teacher", "StudentTeacherConfig", "StudentTeacherDetector"),
    "cflow": ("thfr.methods.cflow", "CFLOWConfig", "CFLOWDetector"),
    "draem": ("thfr.methods.draem", "DRAEMConfig", "DRAEMDetector"),
    "gcad": ("thfr.methods.gcad", "GCADConfig", "GCADDetector"),
}
"""Name -> module, its configuration and its detector."""


def config_class(method: Any, source: str = "method") -> type[RunConfig]:
    """The configuration of a method.

    Raises:
        InputError: there is no such method; begins with ``config: source``.
    """
    if method not in METHODS:
        raise InputError(f"config: {source}: method must be one of {', '.join(METHODS)}, got {method!r}")
    module, name, _ = METHODS[method]
    found: type[RunConfig] = getattr(import_module(module), name)
    return found


def detector_class(method: str) -> type[Detector[Any]]:
    """The detector of a method, InputError if there is none."""
    config_class(method)
    module, _, name = METHODS[method]
    found: type[Detector[Any]] = getattr(import_module(module), name)
    return found
