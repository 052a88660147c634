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
    """Lay out the figures of :func:`thfr.evaluation.evaluate_maps`, or of several categories; one that is
    None shows as ``-``.
    """
    if "categories" in metrics:
        return _categories_table(metrics)
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
    names, kinds = by_kind(metrics)
    table = [["kind against good", *names], *([kind, *map(_figure, one)] for kind, one in kinds.items())]
    if len(names) > 1:
        table = [list(row) for row in zip(*table, strict=True)]  # few kinds, many figures
    if kinds:
        lines += ["", *columns(table[0], table[1:])]
    return "\n".join(lines)


def _categories_table(metrics: Mapping[str, Any]) -> str:
    """A column a category, and their mean."""
    found: dict[str, Mapping[str, Any]] = {**metrics["categories"], "mean": metrics["mean"]}
    limits = {str(one["au_pro_limit"]) for one in metrics["categories"].values()}
    rows = [(label.format(limit="/".join(sorted(limits))), key) for label, key in _ROWS]
    rows.append(("category found", "category_accuracy"))
    lines = [[label, *(_figure(one[key]) for one in found.values())] for label, key in rows]
    head = f"{metrics['dataset']}: one model for {len(metrics['categories'])} categories"
    share = f"{metrics['category_accuracy']:.1%} of all test images were found to be of their category"
    return "\n".join([head, "", *columns(["", *found], lines), "", share])


def by_kind(metrics: Mapping[str, Any]) -> tuple[list[str], dict[str, list[float | None]]]:
    """The figures of each kind of anomaly against the good images: their names, and kind -> values."""
    if "classification" in metrics:
        auc_roc, auc_spro = metrics["classification"]["auc_roc"], metrics["localization"]["auc_spro"]
        names = ["image AUROC", *(f"AU-sPRO at FPR {limit}" for limit in auc_spro["mean"])]
        return names, {kind: [auc_roc[kind], *auc_spro[kind].values()] for kind in auc_roc}
    defects = metrics.get("defects") or {}
    return ["image AUROC"], {kind: [entry["image_auroc"]] for kind, entry in defects.items()}


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
