"""The published protocols of MVTec AD and MVTec LOCO AD, for this method's maps and any other's."""

from __future__ import annotations

from typing import TYPE_CHECKING

from thfr.lazy import lazy_exports

if TYPE_CHECKING:
    from thfr.evaluation.maps import open_maps
    from thfr.evaluation.protocols import evaluate_maps
    from thfr.evaluation.run import evaluate_detector, evaluate_run
    from thfr.evaluation.synthetic import evaluate_synthetic
    from thfr.evaluation.table import metrics_table

# Imported on first use: an evaluation of maps on disk needs no torch.
__getattr__, __dir__ = lazy_exports(
    __name__,
    {
        "maps": ("open_maps",),
        "protocols": ("evaluate_maps",),
        "run": ("evaluate_detector", "evaluate_run"),
        "synthetic": ("evaluate_synthetic",),
        "table": ("metrics_table",),
    },
)

__all__ = [
    "evaluate_detector",
    "evaluate_maps",
    "evaluate_run",
    "evaluate_synthetic",
    "metrics_table",
    "open_maps",
]
