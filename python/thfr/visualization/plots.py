"""Diagrams of image scores. Drawn on plain Figure objects: no window, no global state of matplotlib's."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from thfr.data.base import GOOD
from thfr.visualization.curves import OverlapCurves
from thfr.visualization.gallery import UNKNOWN, Report


@dataclass(frozen=True)
class Theme:
    """Colours of text, grid and data; the data colours are those of Okabe and Ito, made for every kind of
    eye."""

    ink: str
    faint: str
    good: str
    kinds: tuple[str, ...]
    line: str


LIGHT = Theme(
    "#222222", "#d8d8d8", "#0072B2", ("#D55E00", "#B45C92", "#00805B", "#A67C00", "#444444"), "#222222"
)
DARK = Theme(
    "#e8e8e8", "#4a4a4a", "#56B4E9", ("#F08A3C", "#DE9CC4", "#3CCB9C", "#F0E442", "#dddddd"), "#e8e8e8"
)


def kind_label(kind: str) -> str:
    """A folder's name as people would write it."""
    return kind.replace("_", " ")


def headline(metrics: Mapping[str, Any]) -> list[tuple[str, float, str]]:
    """The figures to show first: name, value from 0 to 1, and what it means; those that are not defined are
    left out."""
    spro = metrics.get("localization", {}).get("auc_spro", {}).get("mean", {}).get("0.05")
    found = [
        ("image AUROC", metrics.get("image_auroc"), "chance that a defective image scores above a good one"),
        (
            "image AUPR",
            metrics.get("image_aupr"),
            "share of real defects among those called defective, averaged",
        ),
        ("image F1", metrics.get("image_f1"), "of the verdicts at the decision threshold"),
        ("pixel AUROC", metrics.get("pixel_auroc"), "the same as image AUROC for single pixels"),
        (
            f"AU-PRO, FPR to {metrics.get('au_pro_limit', 0.3)}",
            metrics.get("au_pro"),
            "share of each defect's area found, averaged over thresholds",
        ),
        ("AU-sPRO, FPR to 0.05", spro, "the same up to the area that has to be found, at few false alarms"),
    ]
    return [(name, float(value), meaning) for name, value, meaning in found if value is not None]


def draw_scores(axes: Axes, report: Report, theme: Theme) -> None:
    """One row a kind, one dot an image; a dashed line at the decision threshold."""
    kinds = report.kinds
    for row, kind in enumerate(kinds):
        scores = np.array([entry.score for entry in report.of(kind)])
        # spread over the row by a fixed sequence that never clumps, so that a report is the same every time
        offset = ((np.arange(len(scores)) * 0.618034) % 1 - 0.5) * 0.6
        colour = theme.good if kind in (GOOD, UNKNOWN) else _colour(kinds, kind, theme)
        axes.plot(scores, row + offset, "o", ms=5, mec="none", alpha=0.75, color=colour)
    axes.set_yticks(range(len(kinds)), [f"{kind_label(kind)} ({len(report.of(kind))})" for kind in kinds])
    axes.set_ylim(len(kinds) - 0.4, -0.6)
    axes.set_xlabel("anomaly score")
    axes.grid(axis="x", color=theme.faint, lw=0.8)
    if report.scale.from_good:
        _mark(axes, report.scale.threshold, "decision threshold", theme)
    _plain(axes, theme)


def roc_points(good: Sequence[float], anomalous: Sequence[float]) -> tuple[np.ndarray, np.ndarray]:
    """False and true positive rates at every threshold, from (0,0) to (1,1); equal scores make one step."""
    values = np.concatenate([good, anomalous])
    positive = np.arange(len(values)) >= len(good)
    order = np.argsort(-values, kind="stable")
    last = np.r_[np.diff(values[order]) != 0, True]
    true = np.cumsum(positive[order])[last] / len(anomalous)
    false = np.cumsum(~positive[order])[last] / len(good)
    return np.r_[0.0, false], np.r_[0.0, true]


def has_roc(report: Report) -> bool:
    """Whether there are good as well as anomalous images."""
    return GOOD in report.kinds and len(report.kinds) > 1


def draw_roc(axes: Axes, report: Report, theme: Theme) -> None:
    """One curve a kind, up to five, each against all good images."""
    good = [entry.score for entry in report.of(GOOD)]
    kinds = [kind for kind in report.kinds if kind != GOOD]
    groups = {kind_label(kind): [kind] for kind in kinds} if len(kinds) <= 5 else {"all kinds": kinds}
    axes.plot([0, 1], [0, 1], color=theme.faint, lw=1)
    for colour, (label, members) in zip(theme.kinds, groups.items(), strict=False):
        scores = [entry.score for entry in report.entries if entry.kind in members]
        false, true = roc_points(good, scores)
        axes.plot(false, true, color=colour, lw=2, label=label, clip_on=False)
    axes.set_xlabel("good images with a false alarm")
    axes.set_ylabel("defective images found")
    axes.set_xlim(0, 1)
    axes.set_ylim(0, 1)
    axes.set_aspect("equal")
    axes.set_xticks([0, 0.5, 1], ["0", "50 %", "100 %"])
    axes.set_yticks([0, 0.5, 1], ["0", "50 %", "100 %"])
    axes.legend(loc="lower right", frameon=False, labelcolor=theme.ink, fontsize="small")
    _plain(axes, theme)


def draw_overlap(axes: Axes, overlap: OverlapCurves, theme: Theme) -> None:
    """PRO or sPRO over the false-positive rate, up to twice the limit, which is marked."""
    most = min(2 * overlap.limit, 1.0)
    for colour, (label, (fpr, values)) in zip(theme.kinds, overlap.curves.items(), strict=False):
        axes.plot(fpr, values, color=colour, lw=2, label=kind_label(label))
        within = fpr <= overlap.limit
        axes.fill_between(fpr[within], values[within], color=colour, alpha=0.12, lw=0)
    _mark(axes, overlap.limit, f"limit {overlap.limit:g}", theme)
    axes.set_xlabel("false-positive rate of pixels")
    axes.set_ylabel(f"{overlap.name}, mean over regions")
    axes.set_xlim(0, most)
    axes.set_ylim(0, 1)
    axes.set_xticks([0, overlap.limit / 2, overlap.limit, most])
    axes.set_yticks([0, 0.5, 1], ["0", "50 %", "100 %"])
    axes.legend(loc="lower right", frameon=False, labelcolor=theme.ink, fontsize="small")
    _plain(axes, theme)


def as_png(report: Report, which: str, theme: Theme) -> bytes:
    """One diagram, ``scores``, ``roc`` or the name of one of the report's overlap curves, as a PNG file with
    a transparent background.
    """
    if which == "scores":
        figure = Figure(
            figsize=(7.2, max(4 if has_roc(report) else 2, 1 + 0.45 * len(report.kinds))),
            layout="constrained",
        )
        draw_scores(figure.subplots(), report, theme)
    else:
        figure = Figure(figsize=(4, 4), layout="constrained")
        if which == "roc":
            draw_roc(figure.subplots(), report, theme)
        else:
            (overlap,) = (curves for curves in report.curves if curves.name == which)
            draw_overlap(figure.subplots(), overlap, theme)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=160, transparent=True)
    return buffer.getvalue()


def _colour(kinds: Sequence[str], kind: str, theme: Theme) -> str:
    others = [other for other in kinds if other != GOOD]
    return theme.kinds[others.index(kind) % len(theme.kinds)] if len(others) <= 5 else theme.kinds[0]


def _mark(axes: Axes, at: float, words: str, theme: Theme) -> None:
    """A dashed line upwards, with words at its end."""
    axes.axvline(at, color=theme.line, lw=1.2, ls="--")
    axes.text(
        at, 1.01, words, color=theme.ink, ha="center", va="bottom", transform=axes.get_xaxis_transform(),
        fontsize="small",
    )  # fmt: skip


def _plain(axes: Axes, theme: Theme) -> None:
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        axes.spines[side].set_color(theme.faint)
    axes.tick_params(colors=theme.ink, length=0)
    axes.xaxis.label.set_color(theme.ink)
    axes.yaxis.label.set_color(theme.ink)
    axes.set_axisbelow(True)
    legend = axes.get_legend()
    for text in [*axes.get_yticklabels(), *([] if legend is None else legend.get_texts())]:
        text.set_parse_math(False)  # a kind's name is no formula, whatever signs are in it
