"""Every method on the same data, split, backbone and metrics: the trials of ``thfr compare`` and its
table.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

import yaml

from thfr.config import RunConfig, read_yaml
from thfr.errors import InputError
from thfr.io import atomic_write_json, atomic_write_text
from thfr.io.names import csv_text
from thfr.methods.registry import config_class
from thfr.study.grids import Category, make_trials
from thfr.study.presets import changed
from thfr.study.report import origin
from thfr.study.runner import Outcome
from thfr.study.summary import PLAIN, Row, show_spread, summarise
from thfr.study.trials import Trial

SHOTS = "shots"  # in a setting: how many images are learnt from
_FIGURES = ("image_auroc", "pixel_auroc", "au_pro")
_HEAD = ("image AUROC", "pixel AUROC", "AU-PRO", "fit, s", "ms an image", "memory, MB")


def method_config(
    method: str,
    backbone: str,
    size: int | tuple[int, int] | None = None,
    budget: str = "paper",
    changes: Mapping[str, Any] | None = None,
    geometry: Mapping[str, Any] | None = None,
) -> RunConfig:
    """A method's configuration: its paper's defaults; with ``budget`` "cpu" what `presets/methods_cpu` makes
    smaller; then ``changes`` of its sections ``model`` and ``training``. ``geometry``: fields of the model
    that say how images are seen: size, fit, tiles, overlap.
    """
    values = {"method": method, "model": {"backbone": backbone, "size": size, **(geometry or {})}}
    config = config_class(method).from_values(values, f"options of {method}")
    if budget == "cpu":
        config = changed(config, smaller(method), f"budget of {method}")
    return changed(config, dict(changes or {}), f"changes of {method}")


def smaller(method: str) -> dict[str, Any]:
    """What the budget "cpu" changes in a method's configuration: nothing where the paper's will do."""
    path = files("thfr.study") / "presets" / "methods_cpu" / f"{method}.yaml"
    return (yaml.safe_load(path.read_text(encoding="utf-8")) or {}) if path.is_file() else {}


def read_method_changes(path: Path) -> dict[str, dict[str, Any]]:
    """A YAML file of fields to change, by method.

    Raises:
        InputError: it cannot be read, or names no method.
    """
    values = read_yaml(path)
    for method, fields in values.items():
        config_class(method, str(path))
        if not isinstance(fields, dict):
            raise InputError(f"config: {path}: {method} must hold a mapping, got {type(fields).__name__}")
    return values


def comparison_trials(
    categories: Sequence[tuple[str, str, dict[str, Any]]],
    methods: Sequence[str],
    backbone: str,
    weights: Path | None,
    *,
    budget: str,
    geometry: Mapping[str, Any],
    changes: Mapping[str, Any],
    seeds: Sequence[int],
    first: bool,
    shots: Sequence[int] = (),
) -> list[Trial]:
    """The trials of one backbone. ``categories``: data set, name and fingerprint of each; ``changes``: by
    method; ``geometry``: size, fit, tiles and overlap of all; ``shots``: numbers of training images, none for
    all. A method that does not use the backbone is only there for the ``first`` one.
    """
    trials = []
    for method in methods:
        config = method_config(
            method, backbone, budget=budget, changes=changes.get(method), geometry=geometry
        )
        if not (config.uses_backbone or first):
            continue
        setting = {"method": method, "backbone": backbone if config.uses_backbone else "none"}
        settings: list[tuple[dict[str, Any], RunConfig]] = [(setting, config)]
        if shots:
            settings = [
                ({**setting, SHOTS: count}, changed(config, {"training": {"shots": count}}, "--shots"))
                for count in shots
            ]
        for dataset, name, data in categories:
            trials += make_trials(Category(dataset, name, data, config), settings, seeds, weights)
    return trials


def write_comparison(outcome: Outcome, out: Path) -> dict[str, Any]:
    """Write ``out/comparison.md``, ``.csv`` and ``.json``; gives what the JSON holds."""
    rows = [row for row in summarise(outcome.finished) if row["category"] != "mean"]
    report = {
        "rows": rows,
        **origin(outcome),
        "files": [str(out / f"comparison.{suffix}") for suffix in ("md", "csv", "json")],
    }
    atomic_write_text(out / "comparison.md", as_markdown(rows))
    atomic_write_text(out / "comparison.csv", as_csv(rows))
    atomic_write_json(out / "comparison.json", report)
    return report


def _line(row: Row) -> list[str]:
    """A row's figures in the order of :data:`_HEAD`; of several seeds mean times and largest memory."""
    shown = [show_spread(row["figures"].get(name)) for name in _FIGURES]
    latency = row["milliseconds"]
    return [
        *shown,
        f"{row['train_seconds']:.0f}",
        "-" if latency is None else f"{latency:.0f}",
        f"{row['peak_memory_bytes'] / 1e6:.0f}",
    ]


def as_markdown(rows: Sequence[Row]) -> str:
    """A table a category: a line for each method, backbone and number of shots, those with random templates
    left out.
    """
    parts, names = [], ["method", "backbone", *([SHOTS] if _few(rows) else [])]
    for category in dict.fromkeys(row["category"] for row in rows):
        parts += [
            f"## {category}",
            "",
            f"| {' | '.join((*names, *_HEAD))} |",
            f"|{' --- |' * (len(names) + len(_HEAD))}",
        ]
        for row in _plain(rows, category):
            title = config_class(row["setting"]["method"]).title
            named = [title, *(str(row["setting"][name]) for name in names[1:])]
            parts.append(f"| {' | '.join(named + _line(row))} |")
        parts.append("")
    return "\n".join(parts)


def as_csv(rows: Sequence[Row]) -> str:
    """The same at full precision, figures from 0 to 1, times in s and ms, memory in bytes."""
    spreads = [f"{name} {what}" for name in _FIGURES for what in ("mean", "std")]
    names = ["method", "backbone", *([SHOTS] if _few(rows) else [])]
    head = ["dataset", "category", *names, "seeds"]
    lines: list[list[Any]] = [[*head, *spreads, "train_seconds", "milliseconds", "peak_memory_bytes"]]
    for row in _plain(rows):
        found = [row["figures"].get(name) or {"mean": None, "std": None} for name in _FIGURES]
        lines.append(
            [row["dataset"], row["category"], *(row["setting"][name] for name in names)]
            + [" ".join(map(str, row["seeds"]))]
            + [one[what] for one in found for what in ("mean", "std")]
            + [row["train_seconds"], row["milliseconds"], row["peak_memory_bytes"]]
        )
    return csv_text(lines)


def _few(rows: Sequence[Row]) -> bool:
    return any(SHOTS in row["setting"] for row in rows)


def _plain(rows: Sequence[Row], category: str | None = None) -> list[Row]:
    """The rows without random templates, THFR first, then method by method."""
    plain = [row for row in rows if row["evaluation"] == PLAIN and category in (None, row["category"])]

    def order(row: Row) -> tuple[bool, str]:
        return row["setting"]["method"] != "thfr", row["setting"]["method"]

    return sorted(plain, key=order)
