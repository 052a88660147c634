"""A report in one HTML file that opens anywhere, without network, and a contact sheet in one PNG."""

from __future__ import annotations

import base64
import io
import os
from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import cache
from html import escape
from importlib.resources import files
from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.colors import to_hex
from PIL import Image
from tqdm import tqdm

from thfr.data.base import GOOD
from thfr.evaluation.table import by_kind
from thfr.io import atomic_write_text
from thfr.visualization.findings import boxes, listed
from thfr.visualization.gallery import UNKNOWN, Entry, Report, pictures
from thfr.visualization.overlay import COLOUR_MAP, COLOUR_RANGE
from thfr.visualization.plots import DARK, LIGHT, as_png, has_roc, headline, kind_label

EDGE = 320
"""Pixels of a gallery picture's longer side."""
_MISTAKES = 4  # of each sort at the top
_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'unsafe-inline'"
_CAPTIONS = {
    "scores": "Anomaly scores, one dot an image",
    "roc": "Defects found against false alarms, over all thresholds (ROC)",
    "PRO": "Share of each region found (PRO) against pixels wrongly marked; AU-PRO is the shaded area",
    "sPRO": "The same up to the area that has to be found (sPRO); AU-sPRO is the shaded area",
}


def write_report(path: str | os.PathLike[str], report: Report, *, progress: bool = False) -> None:
    """Write the report atomically as one HTML file; pictures are in it, nothing is fetched.

    Its gallery is sorted, filtered and faded by a script; ``#sort=low&kind=good&verdict=calm&find=x&fade=50``
    behind the file's name opens it in that state. Without scripts all images are there in order.

    Raises:
        InputError: an image, map, template or mask of those shown cannot be read.
    """
    atomic_write_text(path, "\n".join(_page(report, progress)) + "\n")


def _page(report: Report, progress: bool) -> Iterator[str]:
    yield "<!DOCTYPE html>"
    yield '<html lang="en"><head><meta charset="utf-8">'
    yield f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">'
    yield '<meta name="viewport" content="width=device-width, initial-scale=1">'
    yield f"<title>{escape(report.title)}</title>"
    yield f"<style>{_asset('report.css')}</style></head><body><main>"
    yield f"<header><h1>{escape(report.title)}</h1>"
    if report.subtitle:
        yield f"<p>{escape(report.subtitle)}</p>"
    yield "</header>"
    yield from _figures(report)
    yield from _diagrams(report)
    yield from _alarms(report)
    yield from _mistakes(report)
    yield from _gallery(report, progress)
    yield from _table(report)
    yield from _metadata(report)
    yield f"</main><script>{_asset('report.js')}</script></body></html>"


@cache
def _asset(name: str) -> str:
    """The text of a file beside this module."""
    return files("thfr.visualization").joinpath(name).read_text(encoding="utf-8")


def _figures(report: Report) -> Iterator[str]:
    if report.metrics is None:
        return
    yield '<section class="figures">'
    for name, value, meaning in headline(report.metrics):
        yield f"<div><strong>{100 * value:.1f} %</strong><b>{escape(name)}</b>"
        yield f"<span>{escape(meaning)}</span></div>"
    yield "</section>"
    yield from _by_kind(report.metrics)


def _by_kind(metrics: Mapping[str, Any]) -> Iterator[str]:
    """The figures of each kind of anomaly, in a table."""
    names, rows = by_kind(metrics)
    if not rows:
        return
    yield '<div class="scroll"><table><thead><tr><th>against good images</th>'
    yield "".join(f"<th>{escape(name)}</th>" for name in names) + "</tr></thead><tbody>"
    for kind, values in rows.items():
        cells = "".join(f"<td>{'-' if value is None else f'{100 * value:.1f} %'}</td>" for value in values)
        yield f"<tr><th>{escape(kind_label(kind))}</th>{cells}</tr>"
    yield "</tbody></table></div>"


def _diagrams(report: Report) -> Iterator[str]:
    yield '<section class="diagrams">'
    yield _diagram(report, "scores")
    for which in (["roc"] if has_roc(report) else []) + [overlap.name for overlap in report.curves]:
        yield _diagram(report, which)
    yield "</section>"


def _diagram(report: Report, which: str) -> str:
    caption = _CAPTIONS[which]
    light, dark = (_data_uri(as_png(report, which, theme), "png") for theme in (LIGHT, DARK))
    return (
        f'<figure class="{which.lower()}"><picture>'
        f'<source media="(prefers-color-scheme: dark)" srcset="{dark}">'
        f'<img src="{light}" alt="{escape(caption)}"></picture>'
        f"<figcaption>{escape(caption)}</figcaption></figure>"
    )


def _alarms(report: Report) -> Iterator[str]:
    """What the decision threshold would have done to these images."""
    if not report.scale.from_good:
        yield '<p class="note">No decision threshold: no good images have set one (thfr calibrate does).</p>'
        return
    counts = []
    for kind in report.kinds:
        entries = report.of(kind)
        alarms = sum(entry.score > report.scale.threshold for entry in entries)
        what = "false alarms among" if kind == GOOD else "alarms among" if kind == UNKNOWN else "found of"
        noun = (
            "images"
            if kind == UNKNOWN
            else f"{kind_label(kind)} images"
            if kind == GOOD
            else kind_label(kind)
        )
        counts.append(f"<b>{alarms}</b> {what} {len(entries)} {escape(noun)}")
    yield (
        f'<p class="note">With the decision threshold at {report.scale.threshold:.4g}: {", ".join(counts)}. '
        f"The threshold is {escape(report.scale.source)}; "
        "none of the images below took part in it. An image that scores above it is called defective.</p>"
    )


def _legend(report: Report) -> Iterator[str]:
    stops = ", ".join(to_hex(colormaps[COLOUR_MAP](at)) for at in np.linspace(*COLOUR_RANGE, 7))
    scale = report.scale
    limit = "the decision threshold" if scale.from_good else f"{scale.threshold:.4g}"
    truth = any(entry.truth is not None for entry in report.entries)
    yield '<section class="legend"><div class="bar">'
    yield f"<span>{scale.low:.3g}</span>"
    yield f'<i style="background-image: linear-gradient(to right, transparent, {stops})"></i>'
    yield f"<span>{scale.high:.3g}</span></div>"
    yield f'<span><i class="finding"></i>map above {limit}</span>'
    if truth:
        yield '<span><i class="truth"></i>ground truth</span>'
    yield "<span>One colour scale for all images.</span></section>"


def _mistakes(report: Report) -> Iterator[str]:
    """The worst misses and false alarms, to be looked at first."""
    if not report.scale.from_good or report.kinds == [UNKNOWN]:
        return
    found = report.mistakes(_MISTAKES)
    yield '<section class="mistakes"><h2>Worst misses and false alarms</h2>'
    if not found:
        yield "<p>There are none: every defect scores above the threshold, every good image below.</p>"
    else:
        yield f"<p>At most {_MISTAKES} of each, the furthest on the wrong side of the threshold first.</p>"
        yield '<div class="cards">'
        for entry in found:
            yield from _card(report, replace(entry, template=None, restored=None))
        yield "</div>"
    yield "</section>"


def _gallery(report: Report, progress: bool) -> Iterator[str]:
    shown = sorted(
        (entry for kind in report.kinds for entry in report.shown(kind)), key=report.surprise, reverse=True
    )
    yield '<section class="gallery"><h2>Gallery</h2>'
    yield f"<p>{escape(_extent(report))}</p>"
    yield from _tools(report)
    yield from _legend(report)
    yield '<div class="cards">'
    for entry in tqdm(shown, "report", unit="image", disable=not progress, leave=False):
        yield from _card(report, entry)
    yield "</div></section>"


def _extent(report: Report) -> str:
    """How many images the gallery holds, and by which rule."""
    parts = []
    for kind in report.kinds:
        shown, total = len(report.shown(kind)), len(report.of(kind))
        which = "highest" if kind in (GOOD, UNKNOWN) else "lowest"
        words = f"{kind_label(kind)}: all {total}"
        if shown < total and kind == UNKNOWN:
            words = f"{kind_label(kind)}: {shown} of {total}, the highest scores"
        elif shown < total:
            words = (
                f"{kind_label(kind)}: {shown} of {total}, the {report.worst_shown} {which} scores and a "
                "spread of the others"
            )
        parts.append(words)
    return "; ".join(parts) + "."


def _tools(report: Report) -> Iterator[str]:
    """What sorts, filters and fades the gallery; hidden until the script is there to do it."""
    limit = report.scale.threshold if report.scale.from_good else ""
    labelled = report.kinds != [UNKNOWN]
    sorts = {"high": "highest score first", "low": "lowest score first", "name": "by name"}
    if labelled:
        sorts = {"surprise": "worst verdicts first", **sorts}
    yield f'<form class="tools" data-limit="{limit}" hidden>'
    yield _select("sort", "Order", sorts)
    if labelled:
        kinds = {kind: f"{kind_label(kind)} ({len(report.shown(kind))})" for kind in report.kinds}
        yield _select("kind", "Kind", {"": "all kinds", **kinds})
    verdicts = sorted({report.verdict(entry) for entry in report.entries} - {""})
    if verdicts:
        yield _select("verdict", "Verdict", {"": "all verdicts", **{name: name for name in verdicts}})
    yield '<label>Find<input type="search" name="find" placeholder="name or defect"></label>'
    yield '<label class="fade">Compare<span>image<input type="range" name="fade" min="0" max="100" value="0"'
    yield ' aria-label="from the image to its anomaly map">map</span></label>'
    yield '<output aria-live="polite"></output></form>'


def _select(name: str, label: str, options: Mapping[str, str]) -> str:
    listed = "".join(
        f'<option value="{escape(value)}">{escape(text)}</option>' for value, text in options.items()
    )
    return f'<label>{label}<select name="{name}">{listed}</select></label>'


def _card(report: Report, entry: Entry) -> Iterator[str]:
    verdict = report.verdict(entry)
    badge = f'<span class="badge {verdict.replace(" ", "-")}">{verdict}</span>' if verdict else ""
    defects = ", ".join(kind_label(name) for name in entry.defects)
    yield (
        f'<article data-name="{escape(entry.name)}" data-kind="{escape(entry.kind)}"'
        f' data-score="{entry.score!r}" data-surprise="{report.surprise(entry)!r}" data-verdict="{verdict}"'
        f' data-defects="{escape(defects)}"><div class="panels">'
    )
    for label, panel in pictures(entry, report.scale, EDGE):
        height, width = panel.shape[:2]
        drawn = boxes(entry) if label == "anomaly map" else ""
        yield (
            f'<figure class="{label.replace(" ", "-")}"><span>'
            f'<img src="{_data_uri(_jpeg(panel), "jpeg")}" width="{width}" height="{height}"'
        )
        yield f' alt="{escape(f"{label} of {entry.name}")}">{drawn}</span>'
        yield f"<figcaption>{escape(label)}</figcaption></figure>"
    yield f"</div><p>{badge}<b>{entry.score:.4g}</b>"
    yield f'<span class="name"> {escape(entry.name)}</span>'
    if entry.defects and entry.defects != (entry.kind,):
        yield f'<span class="defects"> {escape(defects)}</span>'
    yield f"</p>{listed(entry)}</article>"


def _table(report: Report) -> Iterator[str]:
    yield f"<details><summary>All {len(report.entries)} scores</summary>"
    yield '<div class="scroll"><table><thead><tr>'
    yield "<th>image</th><th>kind</th><th>score</th><th></th></tr></thead><tbody>"
    for entry in sorted(report.entries, key=lambda entry: -entry.score):
        yield (
            f'<tr><th class="name">{escape(entry.name)}</th><td>{escape(kind_label(entry.kind))}</td>'
            f"<td>{entry.score:.5g}</td><td>{report.verdict(entry)}</td></tr>"
        )
    yield "</tbody></table></div></details>"


def _metadata(report: Report) -> Iterator[str]:
    if report.metadata:
        yield "<footer><dl>"
        for name, value in report.metadata.items():
            yield f"<dt>{escape(name)}</dt><dd>{escape(value)}</dd>"
        yield "</dl></footer>"


def _data_uri(data: bytes, kind: str) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(data).decode('ascii')}"


def _jpeg(picture: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, format="JPEG", quality=88)
    return buffer.getvalue()
