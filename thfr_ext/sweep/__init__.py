"""Exact threshold sweeps: PRO and sPRO curves, the areas under them, AUROC."""

from thfr_ext.sweep.api import (
    LOCO_LIMITS,
    au_pro,
    au_spro,
    auroc,
    label_regions,
    pro_curve,
    spro_curve,
)

__all__ = ["LOCO_LIMITS", "au_pro", "au_spro", "auroc", "label_regions", "pro_curve", "spro_curve"]
