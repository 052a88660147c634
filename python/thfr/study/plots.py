"""Figures of a study for print: one column wide, text as text, colours of Okabe and Ito, bars of one standard
deviation over the seeds. One figure a category, as PDF and PNG."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, NullLocator

from thfr.io import atomic_path
from thfr.study.summary import Row, label, localisation, short, spro_label

BLUE, VERMILION, BLACK = "#0072B2", "#D55E00", "#000000"  # of Okabe and Ito
WIDTH = 3.3  # inches: a column of a two-column page
_STYLE: Any = {
    "font.family": "sans-serif", "font.size": 8, "axes.labelsize": 8, "axes.titlesize": 8,
    "xtick.labelsize": 7, "ytick.labelsize": 7, "legend.fontsize": 7,
    "axes.linewidth": 0.6, "xtick.major.width": 0.6, "ytick.major.width": 0.6, "xtick.major.size": 2.5,
    "ytick.major.size": 2.5, "lines.linewidth": 1.2, "lines.markersize": 3.5, "errorbar.capsize": 2,
    "axes.grid": True, "grid.color": "#dddddd", "grid.linewidth": 0.5, "axes.axisbelow": True,
    "axes.spines.top": False, "axes.spines.right": False,
    "pdf.fonttype": 42, "svg.fonttype": "none", "savefig.dpi": 300,
}  # fmt: skip

Draw = Callable[[Sequence[Row]], Figure]


def write_figures(study: str, rows: Sequence[Row], out: Path) -> list[Path]:
    """Draw ``out/<study>-<category>.pdf`` and ``.png`` for every category of the rows; gives their paths."""
    draw = _DRAWERS[study]
    paths = []
    with matplotlib.rc_context(_STYLE):
        for category in dict.fromkeys(row["category"] for row in rows):
            figure = draw([row for row in rows if row["category"] == category])
            for suffix in (".pdf", ".png"):
                paths.append(out / f"{study}-{category}{suffix}")
                # no date in the file: the same rows give the same bytes
                metadata = {"CreationDate": None} if suffix == ".pdf" else None
                with atomic_path(paths[-1]) as temporary:
                    figure.savefig(temporary, metadata=metadata)
    return paths


def axis_label(name: str) -> str:
    """A figure's name and unit as an axis label of two lines, the axis being a short one."""
    fixed = {
        "image_auroc": "image\nAUROC [%]",
        "au_pro": "AU-PRO\n@0.3 [%]",
        "similarity.key": "similarity of\ntemplate [%]",
    }
    return fixed[name] if name in fixed else f"{spro_label(name).replace('@', chr(10) + '@')} [%]"


def _plain(rows: Sequence[Row]) -> list[Row]:
    return [row for row in rows if row["evaluation"]["templates"] == "nearest"]


def _control(rows: Sequence[Row]) -> list[Row]:
    return [row for row in rows if row["evaluation"]["templates"] == "random"]


def _points(axes: Axes, xs: Sequence[float], rows: Sequence[Row], name: str, **style: Any) -> None:
    """A line with error bars; rows that do not define the figure are left out."""
    known = [(x, row["figures"][name]) for x, row in zip(xs, rows, strict=True) if row["figures"].get(name)]
    if known:
        found = [one for _, one in known]
        means = [100 * one["mean"] for one in found]
        axes.errorbar([x for x, _ in known], means, _deviations(found), elinewidth=0.8, **style)


def _deviations(found: Sequence[dict[str, Any]]) -> list[float] | None:
    """Lengths of the error bars; None, so that none are drawn, where every value is of one seed."""
    if all(one["std"] is None for one in found):
        return None
    return [100 * (one["std"] or 0) for one in found]


def _stacked(count: int, height: float = 1.25) -> tuple[Figure, list[Axes]]:
    figure = Figure(figsize=(WIDTH, 0.45 + height * count), layout="constrained")
    panels = list(figure.subplots(count, 1, sharex=True, squeeze=False)[:, 0])
    figure.align_ylabels(panels)
    return figure, panels


def _percent(axes: Axes, name: str) -> None:
    axes.set_ylabel(axis_label(name))
    axes.yaxis.set_major_locator(MaxNLocator(4))


def _bottleneck(rows: Sequence[Row]) -> Figure:
    return _lines(rows, "model.bottleneck_channels", "channels of the global bottleneck")


def _lines(rows: Sequence[Row], field: str, xlabel: str) -> Figure:
    """Localisation and image AUROC against one numeric field, on a logarithmic axis."""
    plain = sorted(_plain(rows), key=lambda row: row["setting"][field])
    control = sorted(_control(rows), key=lambda row: row["setting"][field])
    names = (localisation(rows), "image_auroc")
    figure, panels = _stacked(len(names))
    for axes, name in zip(panels, names, strict=True):
        for members, text, style in (
            (plain, "nearest template", {"color": BLUE, "marker": "o"}),
            (control, "shuffled templates", {"color": BLACK, "marker": "x", "ls": ":"}),
        ):
            _points(axes, [row["setting"][field] for row in members], members, name, label=text, **style)
        _percent(axes, name)
    _across(panels[-1], {row["setting"][field] for row in rows}, xlabel)
    if control:
        _legend(figure, panels[0])
    return figure


def _across(axes: Axes, values: Collection[float], label: str) -> None:
    """The axis to the right, logarithmic where it can be, with a tick at each value."""
    if min(values) > 0:
        axes.set_xscale("log")
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xticks(sorted(values), [f"{value:g}" for value in sorted(values)])
    axes.set_xlabel(label)


def _legend(figure: Figure, axes: Axes) -> None:
    handles, labels = axes.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=len(labels), frameon=False)


def _templates(rows: Sequence[Row]) -> Figure:
    """Localisation, image AUROC and similarity against the bank's share, as in the supplement's Figure 2."""
    plain, control = _plain(rows), _control(rows)
    whole = [row for row in plain if row["evaluation"]["bank_ratio"] is None]
    names = (localisation(rows), "image_auroc", "similarity.key")
    figure, panels = _stacked(len(names), height=1.1)
    for axes, name in zip(panels, names, strict=True):
        for method, aside, style in (  # aside: so that no point hides the other method's
            ("coreset", 1.04, {"color": BLUE, "marker": "o"}),
            ("random", 1 / 1.04, {"color": VERMILION, "marker": "s", "ls": "--"}),
        ):
            line = whole + [row for row in plain if row["evaluation"]["bank_method"] == method]
            ratios = [aside * 100 * (row["evaluation"]["bank_ratio"] or 1) for row in line]
            _points(axes, ratios, line, name, label=method, **style)
        for row in control:
            found = row["figures"].get(name)
            if found is not None:
                mean, std = 100 * found["mean"], 100 * (found["std"] or 0)
                axes.axhline(mean, color=BLACK, lw=0.9, ls=":", label="shuffled templates")
                axes.axhspan(mean - std, mean + std, color=BLACK, alpha=0.1, lw=0)
        _percent(axes, name)
    ticks = {100 * (row["evaluation"]["bank_ratio"] or 1) for row in plain}
    _across(panels[-1], ticks, "share of the training images in the bank [%]")
    panels[-1].invert_xaxis()
    _legend(figure, panels[0])
    return figure


def _dots(rows: Sequence[Row]) -> Figure:
    """A line for each setting, a panel for each figure; open marks: with shuffled templates."""
    plain, control = _plain(rows), _control(rows)
    varied = [f for f in rows[0]["setting"] if len({str(row["setting"][f]) for row in plain}) > 1]
    names = (localisation(rows), "image_auroc")
    texts = [label(row, varied) for row in plain]
    if max(map(len, texts)) > 26:
        texts = [text.replace(", ", ",\n") for text in texts]
    lines = sum(1 + 0.7 * text.count("\n") for text in texts)
    figure = Figure(figsize=(WIDTH, 0.85 + 0.19 * lines), layout="constrained")
    panels = list(figure.subplots(1, len(names), sharey=True))
    positions = {str(row["setting"]): position for position, row in enumerate(plain)}
    for axes, name in zip(panels, names, strict=True):
        for members, text, style in (
            (plain, "nearest template", {"color": BLUE, "fmt": "o"}),
            (control, "shuffled templates", {"color": VERMILION, "fmt": "D", "mfc": "white"}),
        ):
            known = [row for row in members if row["figures"].get(name) and str(row["setting"]) in positions]
            found = [row["figures"][name] for row in known]
            axes.errorbar(
                [100 * one["mean"] for one in found], [positions[str(row["setting"])] for row in known],
                xerr=_deviations(found), elinewidth=0.8, label=text, **style,
            )  # fmt: skip
        axes.set_xlabel(axis_label(name))
        axes.xaxis.set_major_locator(MaxNLocator(3))
        axes.margins(x=0.12)
        axes.tick_params(axis="y", length=0)
    panels[0].set_yticks(range(len(plain)), texts)
    panels[0].set_ylim(len(plain) - 0.4, -0.6)
    if control:
        _legend(figure, panels[0])
    return figure


def _grid(rows: Sequence[Row]) -> Figure:
    """A line where one number is varied, otherwise dots."""
    fields = list(rows[0]["setting"])
    values = [row["setting"][fields[0]] for row in rows]
    if len(fields) == 1 and len(set(map(str, values))) > 2 and all(_is_number(value) for value in values):
        return _lines(rows, fields[0], short(fields[0]))
    return _dots(rows)


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


_DRAWERS: dict[str, Draw] = {
    "bottleneck": _bottleneck,
    "templates": _templates,
    "structure": _dots,
    "grid": _grid,
}
