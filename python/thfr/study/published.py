"""The figures that the paper's supplement prints, and what is known of the official data."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import ROUND_HALF_UP, Decimal
from functools import cache
from importlib.resources import files
from typing import Any

import yaml

STRUCTURAL, LOGICAL, MEAN = "structural_anomalies", "logical_anomalies", "mean"
KINDS = (STRUCTURAL, LOGICAL, MEAN)


@dataclass(frozen=True)
class PublishedTable:
    """One printed table, in percent. ``rows``: method -> figures in the order of ``columns``; None where
    nothing is printed."""

    number: int
    dataset: str
    figure: str
    """Its name in metrics.json; ``{kind}`` stands for each of :data:`KINDS`, which are then the columns."""
    columns: tuple[str, ...]
    rows: dict[str, tuple[float | None, ...]]


@cache
def _content() -> dict[str, Any]:
    text = (files("thfr.study") / "published.yaml").read_text(encoding="utf-8")
    return yaml.safe_load(text)


def source() -> str:
    """Where the figures are printed."""
    return str(_content()["source"])


def remarks(dataset: str) -> dict[str, str]:
    """What the supplement says of a method on a data set, by the method's name."""
    return dict(_content()["remarks"].get(dataset, {}))


def official_categories(dataset: str) -> dict[str, str]:
    """The official categories of a data set in the tables' order, with their short names; none where the
    supplement has no table of it.
    """
    return dict(_content()["categories"].get(dataset, {}))


def official_metadata(dataset: str, category: str) -> dict[str, Any]:
    """What is known of the official category: ``size`` and the number of images by split; may be empty."""
    return dict(_content()["official"].get(dataset, {}).get(category, {}))


def published_tables() -> list[PublishedTable]:
    """Tables 1 to 5 of the supplement."""
    return [
        PublishedTable(
            one["table"],
            one["dataset"],
            one["figure"],
            KINDS if "{kind}" in one["figure"] else (*official_categories(one["dataset"]), MEAN),
            {method: tuple(row) for method, row in one["rows"].items()},
        )
        for one in _content()["tables"]
    ]


def methods() -> list[str]:
    """All methods with a published figure, in the order of the tables."""
    return list(dict.fromkeys(method for table in published_tables() for method in table.rows))


def mean_discrepancies() -> list[tuple[int, str, float, float]]:
    """(table, method, printed mean, mean of the row) where the two differ by more than rounding explains."""
    found = []
    for table in published_tables():
        for method, row in table.rows.items():
            *parts, printed = row
            known = [Decimal(str(part)) for part in parts if part is not None]
            if printed is None or len(known) < len(parts):
                continue
            mean = sum(known, Decimal(0)) / len(known)
            if abs(mean - Decimal(str(printed))) > Decimal("0.05"):
                exact = mean.quantize(Decimal("0.01"), ROUND_HALF_UP)
                found.append((table.number, method, float(printed), float(exact)))
    return found
