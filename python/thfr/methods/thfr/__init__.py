"""THFR: template-guided hierarchical feature restoration (Guo et al., ICCV 2023)."""

from thfr.methods.common.bank import TemplateBank
from thfr.methods.thfr.config import THFRConfig
from thfr.methods.thfr.detector import THFRDetector
from thfr.methods.thfr.making import make_network
from thfr.methods.thfr.network import THFRNetwork

__all__ = ["THFRConfig", "THFRDetector", "THFRNetwork", "TemplateBank", "make_network"]
