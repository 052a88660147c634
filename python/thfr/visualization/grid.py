"""Pages of pictures in rows and columns, fit for print: PNG, and PDF with text as text."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import rc_context
from matplotlib.backends.backend_pdf import PdfPages
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure

from thfr.io import atomic_path
from thfr.predictions.scale import ColourScale
from thfr.visualization.overlay import heat_colours
from thfr.visualization.plots import LIGHT

PANEL_EDGE = 480
"""Pixels of a panel's longer side; at the size it has on the page that is 240 to 480 a inch."""
_WIDTH = 10.5  # inches: A4 on its side with a margin
_LABEL = 1.35
_GAP = 0.06
_TALLEST = 1.75  # inches of a panel
_HIGHEST = 11.0  # inches of a page: A4 upright with a margin
_DPI = 200
_TITLE, _TEXT, _SMALL = 13, 9, 8  # points: nothing is smaller


@dataclass(frozen=True)
class Row:
    """One row of pictures: what stands on its left, and a picture (or none) for each column."""

    label: str
    note: str
    panels: Sequence[np.ndarray | None]  # uint8 [H,W,3]


@dataclass(frozen=True)
class Grid:
    """Rows of pictures under one title. ``scale``: of the heat maps among them."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Row]
    caption: str
    scale: ColourScale


def write_grid(stem: Path, grid: Grid, *, pdf: bool = True) -> list[Path]:
    """Write ``stem.png`` (several pages: ``stem-1.png``, ``stem-2.png``, ...) and, with ``pdf``,
    ``stem.pdf``, each atomically; gives their paths, the PDF last.
    """
    layout = _Layout.of(grid)
    step = layout.rows_a_page
    parts = [grid.rows[start : start + step] for start in range(0, len(grid.rows), step)]
    written: list[Path] = []
    # fonts as TrueType, so that the text can be searched and edited; no date, so that files can be compared
    with rc_context({"pdf.fonttype": 42}):
        figures = [_figure(grid, rows, layout) for rows in parts]
        for number, figure in enumerate(figures, start=1):
            path = stem.with_name(f"{stem.name}-{number}.png" if len(figures) > 1 else f"{stem.name}.png")
            with atomic_path(path) as temporary:
                figure.savefig(temporary, dpi=_DPI, metadata={"Software": None})
            written.append(path)
        if not pdf:
            return written
        path = stem.with_name(f"{stem.name}.pdf")
        with (
            atomic_path(path) as temporary,
            PdfPages(temporary, metadata={"CreationDate": None, "Title": grid.title}) as pages,
        ):
            for figure in figures:
                pages.savefig(figure)
    return [*written, path]


@dataclass(frozen=True)
class _Layout:
    """Measures of a page, in inches."""

    cell: float  # width of a panel
    row: float  # height of a row, with its gap
    width: float
    head: float
    caption: Sequence[str]  # lines

    @classmethod
    def of(cls, grid: Grid) -> _Layout:
        shapes = [panel.shape[:2] for row in grid.rows for panel in row.panels if panel is not None]
        aspect = max(height / width for height, width in shapes)
        cell = min((_WIDTH - _LABEL) / len(grid.columns) - _GAP, _TALLEST / aspect)
        width = max(_LABEL + len(grid.columns) * (cell + _GAP), 6.5)
        limit = "the decision threshold" if grid.scale.from_good else "the middle of the scale"
        words = f"White outline: map above {limit}; cyan outline: ground truth. {grid.caption}"
        return cls(cell, cell * aspect + 2 * _GAP, width, 0.78, textwrap.wrap(words, int(width * 15.5)))

    @property
    def foot(self) -> float:
        return 0.62 + 0.15 * len(self.caption)

    @property
    def rows_a_page(self) -> int:
        return max(int((_HIGHEST - self.head - self.foot) / self.row), 1)


def _figure(grid: Grid, rows: Sequence[Row], layout: _Layout) -> Figure:
    cell, width, head = layout.cell, layout.width, layout.head
    height = head + len(rows) * layout.row + layout.foot
    figure = Figure(figsize=(width, height), facecolor="white")

    def text(x: float, y: float, words: str, size: float = _TEXT, **options: Any) -> None:
        figure.text(
            x / width, 1 - y / height, words, fontsize=size, color=LIGHT.ink, parse_math=False, **options
        )

    text(0.08, 0.3, textwrap.shorten(grid.title, int(width * 9)), _TITLE, weight="bold")
    for column, name in enumerate(grid.columns):
        middle = _LABEL + column * (cell + _GAP) + cell / 2
        text(middle, head - 0.07, textwrap.fill(name, max(int(cell * 15), 9)), ha="center", va="bottom")
    for number, row in enumerate(rows):
        top = head + number * layout.row
        label = textwrap.fill(row.label, 18)
        text(0.08, top + 0.04, label, va="top", weight="bold", linespacing=1.25)
        below = top + 0.1 + 0.16 * (label.count("\n") + 1)
        text(0.08, below, _folded(row.note), _SMALL, va="top", linespacing=1.3)
        for column, panel in enumerate(row.panels):
            if panel is not None:
                left = _LABEL + column * (cell + _GAP)
                _draw(figure, panel, left, top, cell, layout.row - 2 * _GAP)
    _draw_scale(figure, grid.scale, height - layout.foot + 0.2)
    for number, line in enumerate(layout.caption):
        text(0.08, height - layout.foot + 0.66 + 0.15 * number, line, _SMALL)
    return figure


def _folded(note: str) -> str:
    """The lines of a note, none too long for the space beside a row; long names break behind a slash."""
    lines = (
        textwrap.wrap(line if len(line) <= 22 else line.replace("/", "/ "), 22) for line in note.splitlines()
    )
    return "\n".join(line for wrapped in lines for line in wrapped)


def _draw(figure: Figure, panel: np.ndarray, left: float, top: float, width: float, height: float) -> None:
    """One picture in a frame whose position is given in inches; its own aspect ratio is kept."""
    page_width, page_height = figure.get_size_inches()
    shown = min(height, width * panel.shape[0] / panel.shape[1])
    across = shown * panel.shape[1] / panel.shape[0]
    position = (
        (left + (width - across) / 2) / page_width,
        1 - (top + shown) / page_height,
        across / page_width,
        shown / page_height,
    )
    axes = figure.add_axes(position)
    axes.imshow(panel, aspect="auto", interpolation="antialiased")
    axes.axis("off")


def _draw_scale(figure: Figure, scale: ColourScale, top: float) -> None:
    """The colours of the anomaly maps with their values, the outline's among them."""
    width, height = figure.get_size_inches()
    axes = figure.add_axes((_LABEL / width, 1 - (top + 0.12) / height, 2.6 / width, 0.12 / height))
    axes.imshow(
        np.linspace(0, 1, 256)[None], aspect="auto", cmap=ListedColormap(heat_colours() / 255),
        extent=(scale.low, scale.high, 0, 1),
    )  # fmt: skip
    axes.axvline(scale.threshold, color="white", lw=2)
    axes.set_yticks([])
    ticks = (scale.low, scale.threshold, scale.high)
    axes.set_xticks(ticks, [f"{value:.3g}" for value in ticks], fontsize=_SMALL)
    axes.tick_params(length=2, colors=LIGHT.ink)
    for spine in axes.spines.values():
        spine.set_visible(False)
    figure.text(
        0.08 / width, 1 - (top + 0.06) / height, "anomaly map", fontsize=_TEXT, va="center", color=LIGHT.ink
    )
