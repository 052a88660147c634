"""Fast, exact kernels for image anomaly detection: scoring, template retrieval, PRO/sPRO sweeps.

Needs torch and numpy, nothing else. Every function takes torch tensors, NumPy arrays or anything with
``__dlpack__`` and gives back the same kind.
"""

from __future__ import annotations

try:
    from thfr_ext import _C as _C
except ImportError as error:  # a source tree without a build, or a build for another Python
    raise ImportError(
        f"thfr_ext: the native module thfr_ext._C cannot be loaded ({error}). Build it with `pip install .` "
        "(or `pip install -e . --no-build-isolation`) in the project's folder, and import elsewhere."
    ) from error

from thfr_ext import metrics
from thfr_ext.core.build_info import build_info
from thfr_ext.core.self_check import self_check
from thfr_ext.retrieval import greedy_coreset, merge_nearest, nearest_templates
from thfr_ext.scoring import anomaly_map, cosine_distance, upsample_blur
from thfr_ext.sweep import au_pro, au_spro, auroc, label_regions, pro_curve, spro_curve

__version__: str = _C.build_info()["version"]

__all__ = [
    "__version__",
    "anomaly_map",
    "au_pro",
    "au_spro",
    "auroc",
    "build_info",
    "cosine_distance",
    "greedy_coreset",
    "label_regions",
    "merge_nearest",
    "metrics",
    "nearest_templates",
    "pro_curve",
    "self_check",
    "spro_curve",
    "upsample_blur",
]
