"""Every registered format trains, predicts, evaluates and reports."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest
from support.methods import small_config
from thfr.data import dataset_names, load_dataset
from thfr.evaluation import evaluate_run
from thfr.inference import predict
from thfr.training import train
from thfr.visualization.run_report import report_of_run

from .test_formats import LAYOUTS, mask, save


def _folder(root: Path) -> None:
    for number in range(3):
        save(root / f"train/line {number % 2}/{number:03d}.png")
    save(root / "test/good/000.png")
    for number in range(2):
        save(root / f"test/dent/line {number}/a.png")  # one file name twice
        save(root / f"ground_truth/dent/line {number}/a_mask.png", mask())


def _table(root: Path) -> None:
    rows = [("path", "label", "mask", "split")]
    for number in range(3):
        rows.append((save(root / f"{number}.png").name, "good", "", ""))
    rows.append((save(root / "ok.png").name, "good", "", "test"))
    for number in range(2):
        save(root / f"d{number}_mask.bmp", mask())
        rows.append((save(root / f"d{number}.png").name, "dent", f"d{number}_mask.bmp", ""))
    with (root / "parts.csv").open("w", newline="") as file:
        csv.writer(file).writerows(rows)


def _mvtec_loco(root: Path) -> None:
    base = root / "tray"
    for place in ("train/good/000", "train/good/001", "validation/good/000", "test/good/000"):
        save(base / f"{place}.png")
    for kind in ("logical_anomalies", "structural_anomalies"):
        save(base / f"test/{kind}/000.png")
        save(base / f"ground_truth/{kind}/000/000.png", mask(200))
    defect = {"defect_name": "lost", "pixel_value": 200, "saturation_threshold": 3}
    (base / "defects_config.json").write_text(json.dumps([{**defect, "relative_saturation": False}]))


MAKERS = {
    **{name: (layout[0], layout[1][0]) for name, layout in LAYOUTS.items()},
    "mvtec_ad": (LAYOUTS["mpdd"][0], "metal_plate"),
    "mvtec_loco": (_mvtec_loco, "tray"),
    "folder": (_folder, None),
    "table": (_table, None),
}


@pytest.mark.parametrize("name", dataset_names())
def test_format(name: str, tmp_path: Path) -> None:
    make, category = MAKERS[name]
    root, run = tmp_path / "data", tmp_path / "run"
    root.mkdir()
    make(root)
    dataset = load_dataset(name, root, category)
    assert dataset.has_masks
    train(small_config("padim"), dataset, run, progress=False, device="cpu")
    metrics = evaluate_run(run, device="cpu", maps_out=run / "results")
    assert metrics["dataset"] == name
    assert all(0 <= metrics[key] <= 1 for key in ("image_auroc", "image_aupr", "pixel_auroc", "au_pro"))
    assert metrics["au_pro_limit"] == dataset.PRO_LIMIT
    assert sum(metrics["images"].values()) == len(dataset.test)
    assert len(
        {row["map"] for row in json.loads((run / "results/scores.json").read_text())["images"]}
    ) == len(dataset.test)
    report = report_of_run(run, device="cpu")
    assert {key: metrics[key] for key in report["metrics"]} == report["metrics"]
    results = predict(run, dataset.test[0].path, tmp_path / "out", device="cpu")
    assert not results.failed
