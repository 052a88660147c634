"""A report in one HTML file that opens anywhere, without network, and a contact sheet in one PNG."""

from __future__ import annotations

import base64
import io
import os
from collections.abc import Iterator, Mapping
from html import escape
from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.colors import to_hex
from PIL import Image

from thfr.data.base import GOOD
from thfr.io import atomic_write_text
from thfr.visualization.gallery import UNKNOWN, Entry, Report, pictures
from thfr.visualization.overlay import COLOUR_MAP, COLOUR_RANGE
from thfr.visualization.plots import DARK, LIGHT, as_png, has_roc, headline, kind_label
from thfr.visualization.style import CSS

_EDGE = 320  # pixels of a gallery picture's longer side


def write_report(path: str | os.PathLike[str], report: Report) -> None:
    """Write the report as one HTML file, whole or not at all; pictures are in it, nothing is fetched.

    Raises:
        InputError: an image, map, template or mask of those shown cannot be read.
    """
    atomic_write_text(path, "\n".join(_page(report)) + "\n")


def _page(report: Report) -> Iterator[str]:
    yield "<!DOCTYPE html>"
    yield '<html lang="en"><head><meta charset="utf-8">'
    yield '<meta name="viewport" content="width=device-width, initial-scale=1">'
    yield f"<title>{escape(report.title)}</title>"
    yield f"<style>{CSS}</style></head><body><main>"
    yield f"<header><h1>{escape(report.title)}</h1>"
    if report.subtitle:
        yield f"<p>{escape(report.subtitle)}</p>"
    yield "</header>"
    yield from _figures(report)
    yield from _diagrams(report)
    yield from _alarms(report)
    yield from _legend(report)
    for kind in report.kinds:
        yield from _gallery(report, kind)
    yield from _table(report)
    yield from _facts(report)
    yield "</main></body></html>"


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
    if "classification" in metrics:
        auc_roc, auc_spro = metrics["classification"]["auc_roc"], metrics["localization"]["auc_spro"]
        names = ["image AUROC", *(f"AU-sPRO {limit}" for limit in auc_spro["mean"])]
        rows = {kind: [auc_roc[kind], *auc_spro[kind].values()] for kind in auc_roc}
    elif metrics.get("defects"):
        names = ["image AUROC"]
        rows = {kind: [entry["image_auroc"]] for kind, entry in metrics["defects"].items()}
    else:
        return
    yield '<div class="scroll"><table><thead><tr><th>against good images</th>'
    yield "".join(f"<th>{escape(name)}</th>" for name in names) + "</tr></thead><tbody>"
    for kind, values in rows.items():
        cells = "".join(f"<td>{'-' if value is None else f'{100 * value:.1f} %'}</td>" for value in values)
        yield f"<tr><th>{escape(kind_label(kind))}</th>{cells}</tr>"
    yield "</tbody></table></div>"


def _diagrams(report: Report) -> Iterator[str]:
    yield '<section class="diagrams">'
    yield _diagram(report, "scores", "Anomaly scores, one dot an image")
    if has_roc(report):
        yield _diagram(report, "roc", "Defects found against false alarms, over all alarm limits (ROC)")
    yield "</section>"


def _diagram(report: Report, which: str, caption: str) -> str:
    light, dark = (_data_uri(as_png(report, which, theme), "png") for theme in (LIGHT, DARK))
    return (
        f'<figure class="{which}"><picture><source media="(prefers-color-scheme: dark)" srcset="{dark}">'
        f'<img src="{light}" alt="{escape(caption)}"></picture>'
        f"<figcaption>{escape(caption)}</figcaption></figure>"
    )


def _alarms(report: Report) -> Iterator[str]:
    """What the alarm limit would have done to these images."""
    if not report.scale.from_good:
        yield '<p class="note">No alarm limit: the detector holds no good images to take it from.</p>'
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
        f'<p class="note">With the alarm limit at {report.scale.threshold:.4g}: {", ".join(counts)}. '
        f"The limit is the highest score of {escape(report.scale.source)}; "
        "none of the images below took part in it.</p>"
    )


def _legend(report: Report) -> Iterator[str]:
    stops = ", ".join(to_hex(colormaps[COLOUR_MAP](at)) for at in np.linspace(*COLOUR_RANGE, 7))
    scale = report.scale
    limit = "the alarm limit" if scale.from_good else f"{scale.threshold:.4g}"
    truth = any(entry.truth is not None for entry in report.entries)
    yield '<section class="legend"><div class="bar">'
    yield f"<span>{scale.low:.3g}</span>"
    yield f'<i style="background-image: linear-gradient(to right, transparent, {stops})"></i>'
    yield f"<span>{scale.high:.3g}</span></div>"
    yield f'<span><i class="finding"></i>map above {limit}</span>'
    if truth:
        yield '<span><i class="truth"></i>ground truth</span>'
    yield "<span>One colour scale for all images.</span></section>"


def _gallery(report: Report, kind: str) -> Iterator[str]:
    shown, total = report.shown(kind), len(report.of(kind))
    which = "highest" if kind in (GOOD, UNKNOWN) else "lowest"
    order = f"all {total}, the {which} scores first"
    if len(shown) < total and kind == UNKNOWN:
        order = f"{len(shown)} of {total}, the highest scores"
    elif len(shown) < total:
        order = (
            f"{len(shown)} of {total}: the {report.worst_shown} {which} scores, then a spread of the others"
        )
    yield f"<section><h2>{escape(kind_label(kind))}</h2><p>{order}</p>"
    yield '<div class="gallery">'
    for entry in shown:
        yield from _card(report, entry)
    yield "</div></section>"


def _card(report: Report, entry: Entry) -> Iterator[str]:
    verdict = report.verdict(entry)
    badge = f'<span class="badge {verdict.replace(" ", "-")}">{verdict}</span>' if verdict else ""
    yield '<article><div class="panels">'
    for label, panel in pictures(entry, report.scale, _EDGE).panels:
        height, width = panel.shape[:2]
        yield f'<figure><img src="{_data_uri(_jpeg(panel), "jpeg")}" width="{width}" height="{height}"'
        yield f' alt="{escape(f"{label} of {entry.name}")}"><figcaption>{escape(label)}</figcaption></figure>'
    yield f"</div><p>{badge}<b>{entry.score:.4g}</b>"
    yield f'<span class="name"> {escape(entry.name)}</span></p></article>'


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


def _facts(report: Report) -> Iterator[str]:
    if report.facts:
        yield "<footer><dl>"
        for name, value in report.facts.items():
            yield f"<dt>{escape(name)}</dt><dd>{escape(value)}</dd>"
        yield "</dl></footer>"


def _data_uri(data: bytes, kind: str) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(data).decode('ascii')}"


def _jpeg(picture: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, format="JPEG", quality=88)
    return buffer.getvalue()
