"""Means over seeds and categories, and what is shown of them."""

from __future__ import annotations

import csv
import io
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from thfr.study import comparison
from thfr.study.plots import WIDTH, write_figures
from thfr.study.summary import as_csv, as_text, figures, localisation, summarise

LIMITS = ("0.01", "0.05")


def make_trial(category: str, seed: int, value: float | None, **setting: Any) -> dict[str, Any]:
    """A finished trial as its file holds it, with ``value`` for every figure."""
    result = {
        "evaluation": {"templates": "nearest", "bank_ratio": None, "bank_method": None},
        "templates": 4,
        "similarity": {"key": 0.9, "levels": [0.7, 0.8, 0.9]},
        "synthetic": None,
        "metrics": {"image_auroc": value, "pixel_auroc": value, "au_pro": value},
    }
    return {
        "dataset": "mvtec_ad",
        "category": category,
        "setting": setting,
        "config": {"training": {"seed": seed}},
        "run": {"train_seconds": 10.0 + seed},
        "peak_memory_bytes": 1000 + seed,
        "results": [result],
    }


def test_mean_and_deviation_over_the_seeds() -> None:
    rows = summarise([make_trial("nut", 1, 0.9, width=4), make_trial("nut", 0, 0.6, width=4)])
    (row,) = rows
    assert row["seeds"] == [0, 1]
    assert row["figures"]["au_pro"] == {
        "mean": pytest.approx(0.75),
        "std": pytest.approx(0.3 / 2**0.5),
        "values": [0.6, 0.9],
    }
    assert row["figures"]["similarity.level2"]["std"] == 0
    assert (row["train_seconds"], row["peak_memory_bytes"]) == (10.5, 1001)


def test_synthetic_anomalies_had_another_name_in_older_files() -> None:
    found = {"image_auroc": 0.9, "logical": 0.8, "structural": 1.0, "au_pro": 0.7}
    new, old = make_trial("nut", 0, 0.5), make_trial("nut", 0, 0.5)
    new["results"][0]["synthetic"] = found
    del old["results"][0]["synthetic"]
    old["results"][0]["planted"] = found
    rows = [summarise([trial])[0] for trial in (new, old)]
    assert rows[0] == rows[1]
    assert rows[0]["figures"]["synthetic.au_pro"]["mean"] == 0.7


def test_one_seed_has_no_deviation_and_a_missing_figure_no_mean() -> None:
    (one,) = summarise([make_trial("nut", 0, 0.5)])
    assert one["figures"]["au_pro"]["std"] is None
    (two,) = summarise([make_trial("nut", 0, 0.5), make_trial("nut", 1, None)])
    assert two["figures"]["au_pro"] is None


def test_the_mean_over_categories_needs_all_of_them() -> None:
    values = {"nut": 0.2, "cap": 0.6}
    trials = [make_trial(name, seed, values[name] + seed / 10, width=4) for name in values for seed in (0, 1)]
    mean = summarise(trials)[-1]
    assert mean["category"] == "mean"
    assert mean["figures"]["au_pro"]["values"] == pytest.approx([0.4, 0.5])
    assert all(row["category"] != "mean" for row in summarise(trials[:3]))  # a seed is missing
    both = summarise([*trials, make_trial("nut", 0, 0.9, width=8)])
    assert [row["setting"] for row in both if row["category"] == "mean"] == [{"width": 4}]
    trials[0] = make_trial("nut", 0, None, width=4)
    assert summarise(trials)[-1]["figures"]["au_pro"] is None


def loco_metrics(structural: float | None) -> dict[str, Any]:
    mean = None if structural is None else (structural + 0.5) / 2
    kinds = {"logical_anomalies": 0.5, "structural_anomalies": structural, "mean": mean}
    spro = {kind: dict.fromkeys(LIMITS, value) for kind, value in kinds.items()}
    head = {"image_auroc": 0.5, "pixel_auroc": 0.5, "au_pro": 0.5}
    return {**head, "classification": {"auc_roc": kinds}, "localization": {"auc_spro": spro}}


@pytest.mark.parametrize(("structural", "kind"), [(0.7, "mean"), (None, "logical_anomalies")])
def test_localisation_is_a_figure_that_all_rows_have(structural: float | None, kind: str) -> None:
    found = figures(loco_metrics(structural))
    assert found[f"localization.auc_spro.{kind}.0.05"] is not None
    rows = [{"figures": found}, {"figures": figures(loco_metrics(0.7))}]
    assert localisation(rows) == f"localization.auc_spro.{kind}.0.05"
    assert localisation([{"figures": {"au_pro": 0.5}}, *rows]) == "au_pro"


def test_csv_holds_every_row_and_figure() -> None:
    trials = [make_trial("nut", seed, 0.5 + seed / 10, width=width) for seed in (0, 1) for width in (4, 8)]
    lines = list(csv.DictReader(io.StringIO(as_csv(summarise(trials)))))
    assert [(line["category"], line["width"], line["seeds"]) for line in lines] == [
        ("nut", "4", "0 1"),
        ("nut", "8", "0 1"),
    ]
    assert float(lines[0]["image_auroc mean"]) == pytest.approx(0.55)
    assert float(lines[0]["image_auroc std"]) == pytest.approx(0.1 / 2**0.5)
    assert "0.550 ± 0.071" in as_text(summarise(trials))


def test_no_csv_holds_a_formula() -> None:
    rows = summarise([make_trial("=cmd()", 0, 0.9, method="thfr", backbone="resnet18")])
    for text in (as_csv(rows), comparison.as_csv(rows)):
        assert "'=cmd()," in text
        assert ",=" not in text


@pytest.mark.parametrize("study", ["bottleneck", "templates", "structure", "grid"])
def test_figures_are_made_for_print(study: str, tmp_path: Path) -> None:
    name = {"bottleneck": "model.bottleneck_channels", "structure": "structure", "grid": "training.loss"}
    settings = [{}] if study == "templates" else [{name[study]: value} for value in (64, 256, 1024)]
    rows = summarise(make_trial("nut", s, 0.5 + s / 10, **setting) for s in (0, 1) for setting in settings)
    paths = write_figures(study, rows, tmp_path)
    assert [path.name for path in paths] == [f"{study}-nut.pdf", f"{study}-nut.png"]
    pdf = paths[0].read_bytes()
    width = float(re.search(rb"/MediaBox \[ ?0 0 ([\d.]+)", pdf)[1]) / 72
    assert width == pytest.approx(WIDTH, abs=0.01)
    assert b"/TrueType" in pdf or b"/CIDFontType2" in pdf  # text stays text
    assert b"/Subtype /Image" not in pdf
    with Image.open(paths[1]) as image:
        assert image.width == pytest.approx(300 * WIDTH, abs=1)
        assert len(np.unique(np.asarray(image.convert("RGB")).reshape(-1, 3), axis=0)) > 10
    before = [path.read_bytes() for path in paths]
    assert [path.read_bytes() for path in write_figures(study, rows, tmp_path)] == before
