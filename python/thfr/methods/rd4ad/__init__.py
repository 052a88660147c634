"""RD4AD: anomaly detection by reverse distillation (Deng and Li, CVPR 2022)."""

from thfr.methods.rd4ad.detector import RD4ADConfig, RD4ADDetector

__all__ = ["RD4ADConfig", "RD4ADDetector"]
