"""The THFR model: restoration network, template bank, and the detector made of them."""

from thfr.models.bank import TemplateBank
from thfr.models.detector import Detector, Scores, resolve_device
from thfr.models.network import THFRNetwork
from thfr.models.threshold import Threshold

__all__ = ["Detector", "Scores", "THFRNetwork", "TemplateBank", "Threshold", "resolve_device"]
