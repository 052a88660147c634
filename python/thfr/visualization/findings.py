"""Findings in a report: numbered boxes over the map, and the list under it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from thfr.predictions.findings import Finding
from thfr.predictions.judging import Rules, judge
from thfr.visualization.gallery import Entry

_SHOWN = 8  # of an image


def with_findings(
    entries: Sequence[Entry],
    maps: Sequence[np.ndarray],  # float32 [H,W] each
    limit: float,
    rules: Rules,
) -> list[Entry]:
    """The entries with the findings in their maps."""
    return [
        replace(entry, findings=judge(values, entry.score, limit, rules).findings, size=values.shape)
        for entry, values in zip(entries, maps, strict=True)
    ]


def boxes(entry: Entry) -> str:
    """HTML of the boxes, to be laid over a picture of the whole image in an element of its size."""
    rows, columns = entry.size
    found = []
    for number, one in enumerate(entry.findings[:_SHOWN], 1):
        left, top, wide, high = (
            f"{100 * part / whole:.2f}%"
            for part, whole in ((one.x, columns), (one.y, rows), (one.width, columns), (one.height, rows))
        )
        style = f"left:{left};top:{top};width:{wide};height:{high}"
        found.append(f'<i style="{style}" aria-hidden="true"><b>{number}</b></i>')
    return "".join(found)


def listed(entry: Entry) -> str:
    """HTML of the list under an image; nothing where there is no finding."""
    if not entry.findings:
        return ""
    items = "".join(f"<li>{in_words(one)}</li>" for one in entry.findings[:_SHOWN])
    more = len(entry.findings) - _SHOWN
    rest = f"<p>and {more} smaller or weaker</p>" if more > 0 else ""
    return f'<ol class="findings">{items}</ol>{rest}'


def in_words(one: Finding) -> str:
    """Area, position and peak; in millimetres, too, where the scale is known."""
    area = f"{one.area} px" if one.area_mm2 is None else f"{_short(one.area_mm2)} mm² ({one.area} px)"
    size = f"{one.width} × {one.height}"
    if one.width_mm is not None and one.height_mm is not None:
        size = f"{_short(one.width_mm)} × {_short(one.height_mm)} mm"
    return f"{area}, {size} at x {one.x}, y {one.y}; peak {one.peak:.4g}"


def _short(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
