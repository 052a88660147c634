"""The parts of THFR: restoration network, template bank, threshold."""

from thfr.models.bank import TemplateBank
from thfr.models.network import THFRNetwork
from thfr.models.threshold import Threshold

__all__ = ["THFRNetwork", "TemplateBank", "Threshold"]
