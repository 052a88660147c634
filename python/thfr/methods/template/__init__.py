"""No training: the difference to similar good images, and to patches of all of them."""

from thfr.methods.template.config import TemplateConfig
from thfr.methods.template.detector import TemplateDetector

__all__ = ["TemplateConfig", "TemplateDetector"]
