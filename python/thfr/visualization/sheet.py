"""A contact sheet: the report's essence in one PNG, for mails and slides."""

from __future__ import annotations

import os
from itertools import chain

import numpy as np
from matplotlib.figure import Figure

from thfr.data.base import GOOD
from thfr.io import atomic_path
from thfr.visualization.gallery import UNKNOWN, Entry, Report, pictures
from thfr.visualization.plots import LIGHT, draw_roc, draw_scores, has_roc, headline, kind_label

_WIDTH = 16.0  # inches
_COLUMNS = 6
_EDGE = 240
_VERDICT_COLOURS = {"found": "#00704f", "calm": "#00704f", "": LIGHT.ink}


def write_contact_sheet(path: str | os.PathLike[str], report: Report) -> None:
    """Write the figures, the diagrams and up to six images of each kind atomically as one PNG.

    Each image stands above its anomaly map.

    Raises:
        InputError: an image, its map or its mask cannot be read.
    """
    kinds = report.kinds
    rows = [_picked(report, kind) for kind in kinds]
    panels = [[_stacked(entry, report) for entry in row] for row in rows]
    cell = (_WIDTH - 0.6) / _COLUMNS
    shape = max(picture.shape[0] / picture.shape[1] for picture in chain.from_iterable(panels))
    heights = [3.9, *[cell * shape + 0.75] * len(kinds)]
    figure = Figure(figsize=(_WIDTH, sum(heights) + 1.2), layout="constrained", facecolor="white")
    figure.suptitle(_headline(report), x=0.01, ha="left", fontsize=16, color=LIGHT.ink, parse_math=False)
    parts: np.ndarray = figure.subfigures(len(heights), 1, height_ratios=heights, squeeze=False)[:, 0]
    axes = parts[0].subplots(1, 2 if has_roc(report) else 1, width_ratios=[9, 5] if has_roc(report) else None)
    draw_scores(np.ravel(axes)[0], report, LIGHT)
    if has_roc(report):
        draw_roc(axes[1], report, LIGHT)
    for part, kind, row, images in zip(parts[1:], kinds, rows, panels, strict=True):
        total = len(report.of(kind))
        title = f"{kind_label(kind)}: {_order(kind)}, {len(row)} of {total}"
        part.suptitle(title, x=0.01, ha="left", fontsize=13, parse_math=False)
        for axis in (grid := part.subplots(1, _COLUMNS)):
            axis.axis("off")
        for axis, entry, image in zip(grid, row, images, strict=False):
            axis.imshow(image)
            verdict = report.verdict(entry)
            axis.set_title(
                f"{_short(entry.name)}\n{entry.score:.3g} {verdict}".rstrip(), fontsize=10,
                color=_VERDICT_COLOURS.get(verdict, "#b3401a"), parse_math=False,
            )  # fmt: skip
    with atomic_path(path) as temporary:
        figure.savefig(temporary, format="png", dpi=90)


def _headline(report: Report) -> str:
    figures = [f"{name} {100 * value:.1f} %" for name, value, _ in headline(report.metrics or {})]
    return "\n".join([_short(report.title, 110), *(["   ".join(figures)] if figures else [])])


def _order(kind: str) -> str:
    return "highest scores first" if kind in (GOOD, UNKNOWN) else "lowest scores first"


def _picked(report: Report, kind: str) -> list[Entry]:
    return Report(report.title, report.entries, report.scale, per_kind=_COLUMNS).shown(kind)


def _stacked(entry: Entry, report: Report) -> np.ndarray:
    """The image above its map, uint8 [H,W,3]; beside each other if it is upright, to waste no space."""
    panels = dict(pictures(entry, report.scale, _EDGE))
    image = panels.get("ground truth", panels["image"])
    gap_axis = 0 if image.shape[1] >= image.shape[0] * 0.8 else 1
    edge = image.shape[1 - gap_axis]
    gap = np.full((6, edge, 3) if gap_axis == 0 else (edge, 6, 3), 255, dtype=np.uint8)
    return np.concatenate([image, gap, panels["anomaly map"]], axis=gap_axis)


def _short(name: str, most: int = 32) -> str:
    return name if len(name) <= most else "…" + name[1 - most :]
