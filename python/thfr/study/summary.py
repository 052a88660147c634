"""From trials to rows: mean and standard deviation over the seeds, as CSV, JSON and a table for people."""

from __future__ import annotations

import json
import statistics
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from thfr.evaluation.table import columns
from thfr.io.names import csv_text

MEAN = "mean"
Row = dict[str, Any]
PLAIN = {"templates": "nearest", "bank_ratio": None, "bank_method": None}
_SHOWN = ("image_auroc", "pixel_auroc", "au_pro")
_SYNTHETIC = ("image_auroc", "logical", "structural", "au_pro")
_SPRO = "localization.auc_spro"


def figures(metrics: Mapping[str, Any]) -> dict[str, float | None]:
    """The figures of :func:`thfr.evaluation.evaluate_maps` by dotted names, from 0 to 1."""
    found: dict[str, float | None] = {name: metrics[name] for name in _SHOWN}
    for group, key in (("classification", "auc_roc"), ("localization", "auc_spro")):
        for kind, value in metrics.get(group, {}).get(key, {}).items():
            for limit, one in value.items() if isinstance(value, dict) else [("", value)]:
                found[f"{group}.{key}.{kind}{'.' if limit else ''}{limit}"] = one
    return found


def localisation(rows: Sequence[Row]) -> str:
    """The figure that says how well anomalies are localised: AU-sPRO at FPR 0.05, its mean over the kinds if
    all rows have it, else that of the kind which they have; AU-PRO without any."""
    for name in (f"{_SPRO}.{kind}.0.05" for kind in (MEAN, "logical_anomalies", "structural_anomalies")):
        if rows and all(row["figures"].get(name) is not None for row in rows):
            return name
    return "au_pro"


def summarise(trials: Iterable[Mapping[str, Any]]) -> list[Row]:
    """One row for each category, setting and evaluation, in the order of the trials.

    A row: ``dataset``, ``category``, ``setting``, ``evaluation``, ``seeds``, ``templates`` (number in the
    bank), ``train_seconds`` (mean), ``milliseconds`` (for an image alone, mean), ``peak_memory_bytes``
    (largest) and ``figures``: name -> None if a seed does not define it, else ``values`` by seed, their
    ``mean`` and ``std``, the sample standard deviation,
    None for one seed. Where a study has several categories and each has the row with the same seeds, a row
    of the category ``mean`` follows: the mean over the categories for every seed, then over the seeds.
    """
    groups: dict[str, list[tuple[Mapping[str, Any], Mapping[str, Any]]]] = {}
    for trial in trials:
        for result in trial["results"]:
            key = [trial["dataset"], trial["category"], trial["setting"], result["evaluation"]]
            groups.setdefault(json.dumps(key), []).append((trial, result))
    rows = [_row(json.loads(key), members) for key, members in groups.items()]
    return rows + _category_means(rows)


def _row(key: list[Any], members: list[tuple[Mapping[str, Any], Mapping[str, Any]]]) -> Row:
    members = sorted(members, key=lambda member: member[0]["config"]["training"]["seed"])
    by_seed = []
    for _, result in members:
        similarity = result["similarity"] or {"key": None, "levels": [None] * 3}
        levels = {f"similarity.level{i}": value for i, value in enumerate(similarity["levels"], 1)}
        # files of version 0.2 say "planted"
        synthetic = result.get("synthetic", result.get("planted")) or dict.fromkeys(_SYNTHETIC)
        by_seed.append(
            {
                **figures(result["metrics"]),
                "similarity.key": similarity["key"],
                **levels,
                **{f"synthetic.{name}": synthetic[name] for name in _SYNTHETIC},
            }
        )
    return {
        **dict(zip(("dataset", "category", "setting", "evaluation"), key, strict=True)),
        "seeds": [trial["config"]["training"]["seed"] for trial, _ in members],
        "templates": members[0][1]["templates"],
        "train_seconds": statistics.mean(trial["run"]["train_seconds"] for trial, _ in members),
        "milliseconds": _latency([trial for trial, _ in members]),
        "peak_memory_bytes": max(trial["peak_memory_bytes"] for trial, _ in members),
        "figures": {name: spread([one[name] for one in by_seed]) for name in by_seed[0]},
    }


def _latency(trials: Sequence[Mapping[str, Any]]) -> float | None:
    """Mean over the seeds of the milliseconds an image takes alone; None for trials that do not have it."""
    known = [trial["milliseconds"] for trial in trials if "milliseconds" in trial]
    return statistics.mean(known) if len(known) == len(trials) else None


def spread(values: Sequence[float | None]) -> dict[str, Any] | None:
    """Mean and sample standard deviation; None if a value is missing: that would be another mean."""
    known = [value for value in values if value is not None]
    if len(known) != len(values):
        return None
    std = statistics.stdev(known) if len(known) > 1 else None
    return {"mean": statistics.mean(known), "std": std, "values": known}


def _category_means(rows: Sequence[Row]) -> list[Row]:
    names = {row["category"] for row in rows}
    if len(names) < 2:
        return []
    groups: dict[str, list[Row]] = {}
    for row in rows:
        groups.setdefault(json.dumps([row["dataset"], row["setting"], row["evaluation"]]), []).append(row)
    complete = [
        group
        for group in groups.values()
        if len(group) == len(names) and all(row["seeds"] == group[0]["seeds"] for row in group)
    ]
    return [_mean_row(group) for group in complete]


def _mean_row(group: Sequence[Row]) -> Row:
    averaged: dict[str, dict[str, Any] | None] = {}
    for name in group[0]["figures"]:
        parts = [row["figures"].get(name) for row in group]
        known = [part["values"] for part in parts if part is not None]
        each = [statistics.mean(one) for one in zip(*known, strict=True)]
        averaged[name] = spread(each) if len(known) == len(parts) else None
    return {
        **group[0],
        "category": MEAN,
        "templates": None,
        "train_seconds": statistics.mean(row["train_seconds"] for row in group),
        "milliseconds": None,
        "peak_memory_bytes": max(row["peak_memory_bytes"] for row in group),
        "figures": averaged,
    }


def label(row: Row, fields: Sequence[str] | None = None) -> str:
    """A row's setting and evaluation in words, without its category; ``fields``: which of the setting."""
    words = [
        str(value) if name == "structure" else f"{short(name)} {value}"
        for name, value in row["setting"].items()
        if fields is None or name in fields
    ]
    evaluation = row["evaluation"]
    if evaluation["bank_ratio"] is not None:
        words.append(f"bank {100 * evaluation['bank_ratio']:g} % {evaluation['bank_method']}")
    if evaluation["templates"] == "random":
        words.append("shuffled templates")
    return ", ".join(words) or "whole bank"


def short(name: str) -> str:
    """A field's name in words: ``model.local_reduction`` is "local reduction"."""
    return name.rpartition(".")[2].replace("_", " ")


def as_csv(rows: Sequence[Row]) -> str:
    """A line a row; of every figure that some row has, mean and standard deviation."""
    names = [name for name in _ordered(rows) if any(row["figures"].get(name) for row in rows)]
    fields = list(dict.fromkeys(key for row in rows for key in row["setting"]))
    head = ["dataset", "category", *fields, *PLAIN, "bank_templates", "seeds", "train_seconds"]
    spreads = [f"{name} {what}" for name in names for what in ("mean", "std")]
    lines: list[list[Any]] = [[*head, "peak_memory_bytes", *spreads]]
    for row in rows:
        line = [row["dataset"], row["category"], *(row["setting"].get(key) for key in fields)]
        line += [row["evaluation"][key] for key in PLAIN]
        line += [row["templates"], " ".join(map(str, row["seeds"])), round(row["train_seconds"], 1)]
        line += [row["peak_memory_bytes"]]
        for name in names:
            found = row["figures"].get(name) or {"mean": None, "std": None}
            line += [found["mean"], found["std"]]
        lines.append(line)
    return csv_text(lines)


def as_text(rows: Sequence[Row]) -> str:
    """The figures that matter most, for a terminal."""
    located = localisation(rows)
    shown = ("image_auroc", "pixel_auroc", *dict.fromkeys((located, "au_pro")), "similarity.key")
    head = ["category", "setting", "image AUROC", "pixel AUROC"]
    head += [] if located == "au_pro" else [spro_label(located)]
    head += ["AU-PRO", "similarity", "seeds"]
    lines = [
        [
            row["category"],
            label(row),
            *(show_spread(row["figures"].get(name)) for name in shown),
            str(len(row["seeds"])),
        ]
        for row in rows
    ]
    return "\n".join(columns(head, lines))


def spro_label(name: str) -> str:
    """``localization.auc_spro.logical_anomalies.0.05`` in words."""
    kind, limit = name.removeprefix(f"{_SPRO}.").split(".", 1)
    words = {MEAN: "", "logical_anomalies": " logical", "structural_anomalies": " structural"}
    return f"AU-sPRO@{limit}{words[kind]}"


def show_spread(found: Mapping[str, Any] | None, factor: float = 1, digits: int = 3) -> str:
    """``0.951 ± 0.016``; ``-`` if there is none."""
    if found is None:
        return "-"
    deviation = "" if found["std"] is None else f" ± {factor * found['std']:.{digits}f}"
    return f"{factor * found['mean']:.{digits}f}{deviation}"


def _ordered(rows: Sequence[Row]) -> list[str]:
    return list(dict.fromkeys(name for row in rows for name in row["figures"]))
