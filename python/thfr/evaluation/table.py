"""The figures of ``metrics.json`` as a table for people."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

_ROWS = (
    ("image AUROC", "image_auroc"),
    ("image AUPR", "image_aupr"),
    ("image F1 at the threshold", "image_f1"),
    ("pixel AUROC", "pixel_auroc"),
    ("AU-PRO at FPR {limit}", "au_pro"),
)


def metrics_table(metrics: Mapping[str, Any]) -> str:
    """Lay out the figures of :func:`thfr.evaluation.evaluate_maps`; one that is None shows as ``-``."""
    counts = ", ".join(f"{count} {kind}" for kind, count in metrics["images"].items())
    lines = [f"{metrics['dataset']} {metrics['category']}: test images {counts}", ""]
    if metrics.get("region") is not None:
        region = metrics["region"]
        lines[-1:] = [
            f"within the region of interest, {region['share']:.0%} of the image; "
            f"{region['images_left_out']} anomalous images with nothing in it left out",
            "",
        ]
    limit = metrics.get("au_pro_limit", 0.3)
    rows = [[label.format(limit=limit), _figure(metrics.get(key))] for label, key in _ROWS]
    lines += columns(["", "all kinds"], rows)
    if "classification" in metrics:
        lines += ["", *_loco_columns(metrics)]
    elif metrics["defects"]:
        rows = [[kind, _figure(entry["image_auroc"])] for kind, entry in metrics["defects"].items()]
        lines += ["", *columns(["defect against good", "image AUROC"], rows)]
    return "\n".join(lines)


def _loco_columns(metrics: Mapping[str, Any]) -> list[str]:
    auc_roc, auc_spro = metrics["classification"]["auc_roc"], metrics["localization"]["auc_spro"]
    kinds = list(auc_roc)
    rows = [["image AUROC", *(_figure(auc_roc[kind]) for kind in kinds)]]
    for limit in auc_spro["mean"]:
        rows.append([f"AU-sPRO at FPR {limit}", *(_figure(auc_spro[kind][limit]) for kind in kinds)])
    return columns(["kind against good", *kinds], rows)


def _figure(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"


def columns(header: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Lines with the first column flush left and the others flush right."""
    widths = [max(len(row[index]) for row in (header, *rows)) for index in range(len(header))]
    return [
        "  ".join(
            cell.rjust(w) if i else cell.ljust(w) for i, (cell, w) in enumerate(zip(row, widths, strict=True))
        )
        for row in (header, *rows)
    ]
