"""Every method of the comparison behind one interface, THFR being one of them.

A method is a :class:`Detector`: fitted by :func:`thfr.training.train` on good images, scoring images, saved
to and loaded from a run folder. Its settings are a subclass of :class:`thfr.config.RunConfig`.
"""

from thfr.methods.base import Detector, Material, Scores, resolve_device
from thfr.methods.registry import METHODS, config_class, detector_class
from thfr.methods.thfr import THFRDetector

__all__ = [
    "METHODS",
    "Detector",
    "Material",
    "Scores",
    "THFRDetector",
    "config_class",
    "detector_class",
    "resolve_device",
]
