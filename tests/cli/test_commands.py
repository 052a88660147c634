"""The commands on tiny data, end to end, through ``main``."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from thfr.cli import demo_run as demo
from thfr.cli import main
from thfr.data import load_dataset
from thfr.inference import predict

BACKBONE = ("--backbone", "tf_efficientnet_lite0", "--size", "64", "--epochs", "1", "--device", "cpu")


def last_line(capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    return json.loads(capsys.readouterr().out.splitlines()[-1])


@pytest.fixture(scope="module")
def data(plates: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a single category: it need not be named."""
    root = tmp_path_factory.mktemp("single")
    shutil.copytree(plates / "plate", root / "plate")
    return root


@pytest.fixture(scope="module")
def run_folder(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("runs") / "plate"
    assert main(["train", "--dataset", "mvtec_ad", "--data", str(data), "--out", str(out), *BACKBONE]) == 0
    return out


def test_train_says_what_it_did(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "run"
    arguments = ["train", "--dataset", "folder", "--data", str(data / "plate" / "train"), "--out", str(out)]
    assert main([*arguments, *BACKBONE, "--variant", "gl", "--seed", "3", "--json"]) == 0
    values = last_line(capsys)
    assert (values["variant"], values["size"], values["images"], values["steps"]) == ("gl", 64, 3, 1)
    assert len(values["threshold"]["scores"]) == values["calibration_images"] == 1  # a tenth, one at least
    assert values["threshold"]["wanted_rate"] == 0.05
    config = (out / "config.yaml").read_text()
    assert "variant: gl" in config
    assert "seed: 3" in config
    other = tmp_path / "other.yaml"
    other.write_text("training: {loss: flattened}")
    changed = [*arguments[:-1], str(tmp_path / "other"), *BACKBONE, "--variant", "gl", "--config", str(other)]
    assert main(changed) == 0
    assert "loss: flattened" in (tmp_path / "other" / "config.yaml").read_text()
    other.write_text("training: {los: flattened}")
    assert main(changed) == 2
    assert "los" in capsys.readouterr().err
    assert (
        main([*arguments, *BACKBONE, "--variant", "lbn", "--seed", "3"]) == 2
    )  # another configuration's folder
    assert "model.variant" in capsys.readouterr().err


def test_calibrate_then_predict_says_good_or_bad(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, new = tmp_path / "run", str(data / "plate" / "test" / "scratch")
    train = ["train", "--dataset", "mvtec_ad", "--data", str(data), "--out", str(out), *BACKBONE]
    assert main([*train, "--variant", "gl"]) == 0
    assert "no threshold" in capsys.readouterr().out
    predict = ["predict", str(out), new, "--out", str(tmp_path / "results"), "--device", "cpu"]
    assert main(predict) == 0
    assert "thfr calibrate sets it" in capsys.readouterr().out
    assert main(["calibrate", str(out)]) == 2
    assert "thfr calibrate: " in capsys.readouterr().err
    good = str(data / "plate" / "test" / "good")
    assert main(["calibrate", str(out), good, "--false-alarm-rate", "0.4", "--device", "cpu", "--json"]) == 0
    values = last_line(capsys)
    assert values["value"] == values["scores"][1]
    assert values["expected_rate"] == pytest.approx(1 / 3)
    assert main([*predict, "--json", "--min-area", "5", "--pixels-per-mm", "2"]) == 0
    judged = last_line(capsys)
    limit = judged["threshold"]["value"]
    for image in judged["images"]:
        assert image["verdict"] == ("bad" if image["score"] > limit else "good")
        assert bool(image["findings"]) == (image["verdict"] == "bad")
        assert all(found["area"] >= 5 and found["peak"] > limit for found in image["findings"])
        assert all(found["area_mm2"] == found["area"] / 4 for found in image["findings"])
    assert (tmp_path / "results" / "findings.csv").is_file()
    assert main(predict) == 0
    bad = sum(image["verdict"] == "bad" for image in judged["images"])
    assert f"{bad} of 2 are bad" in capsys.readouterr().out
    with pytest.raises(SystemExit) as caught:
        main(["calibrate", str(out), "--false-alarm-rate", "1.5"])
    assert caught.value.code == 2


def test_evaluate_a_run(run_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["evaluate", str(run_folder), "--device", "cpu", "--json"]) == 0
    values = last_line(capsys)
    assert values == json.loads((run_folder / "metrics.json").read_text())
    assert values["images"] == {"good": 2, "scratch": 2}
    assert all(0 <= values[key] <= 1 for key in ("image_auroc", "pixel_auroc", "au_pro"))
    assert values["model"]["backbone"] == "tf_efficientnet_lite0"
    assert main(["evaluate", str(run_folder)]) == 0
    text = capsys.readouterr().out
    for label in ("image AUROC", "pixel AUROC", "AU-PRO at FPR 0.3"):
        assert label in text


def test_evaluate_finds_data_that_moved(
    run_folder: Path, data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    note = run_folder / "data.json"
    before = note.read_text()
    try:
        note.write_text(before.replace(str(data), "/gone/away"))
        assert main(["evaluate", str(run_folder)]) == 2
        assert "--data ROOT" in capsys.readouterr().err
        assert main(["evaluate", str(run_folder), "--data", str(data)]) == 0
        note.unlink()
        assert main(["evaluate", str(run_folder)]) == 2
        assert "--data ROOT" in capsys.readouterr().err
    finally:
        note.write_text(before)


def test_evaluate_needs_a_run_with_test_images(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["evaluate", str(tmp_path)]) == 2
    assert "config.yaml" in capsys.readouterr().err
    out = tmp_path / "run"
    train = ["train", "--dataset", "folder", "--data", str(data / "plate" / "train"), "--out", str(out)]
    assert main([*train, *BACKBONE, "--variant", "gbn"]) == 0
    assert main(["evaluate", str(out)]) == 2
    assert "which has no test images" in capsys.readouterr().err


def test_evaluate_any_maps(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for kind in ("good", "scratch"):
        for number in range(2):
            values = np.zeros((40, 48), np.float32)
            if kind == "scratch":
                values[10:20, 10:30] = 1
            path = tmp_path / "maps" / "plate" / "test" / kind / f"{number:03d}.tiff"
            path.parent.mkdir(parents=True, exist_ok=True)
            tifffile.imwrite(path, values)
    out = tmp_path / "results" / "metrics.json"
    arguments = ["evaluate", "--maps", str(tmp_path / "maps"), "--dataset", "mvtec_ad", "--data", str(data)]
    arguments += ["--category", "plate", "--out", str(out)]
    assert main([*arguments, "--json"]) == 0
    values = last_line(capsys)
    assert (values["image_auroc"], values["pixel_auroc"], values["au_pro"]) == (1.0, 1.0, 1.0)
    assert json.loads(out.read_text()) == values
    assert main([*arguments[:-1], str(tmp_path)]) == 2
    assert "out must be a file" in capsys.readouterr().err
    out.unlink()
    (tmp_path / "maps" / "plate" / "test" / "good" / "001.tiff").unlink()
    assert main(arguments) == 2
    assert "missing: 1" in capsys.readouterr().err
    assert not out.exists()


def test_predicted_maps_score_as_the_run_does(run_folder: Path, data: Path, tmp_path: Path) -> None:
    """`thfr evaluate RUN`, and its maps written to disk and evaluated as any method's."""
    dataset = load_dataset("mvtec_ad", data, "plate")
    predict(run_folder, dataset, tmp_path / "results", device="cpu")
    assert main(["evaluate", str(run_folder), "--device", "cpu"]) == 0
    maps = ["evaluate", "--maps", str(tmp_path / "results"), "--dataset", "mvtec_ad", "--data", str(data)]
    assert main([*maps, "--category", "plate", "--out", str(tmp_path / "metrics.json")]) == 0
    of_run = json.loads((run_folder / "metrics.json").read_text())
    of_maps = json.loads((tmp_path / "metrics.json").read_text())
    for key in ("pixel_auroc", "au_pro", "images"):
        assert of_maps[key] == of_run[key]


def test_predict_writes_scores_maps_and_a_report(
    run_folder: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "results"
    arguments = [
        "predict",
        str(run_folder),
        str(data / "plate" / "test"),
        "--out",
        str(out),
        "--device",
        "cpu",
    ]
    assert main([*arguments, "--json"]) == 0
    values = last_line(capsys)
    assert [image["file"] for image in values["images"]] == [
        "good/000.png",
        "good/001.png",
        "scratch/000.png",
        "scratch/001.png",
    ]
    assert all(tifffile.imread(out / image["map"]).shape == (40, 48) for image in values["images"])
    assert (out / "report.html").is_file()
    assert main(arguments) == 0
    assert "scratch/000.png" in capsys.readouterr().out
    assert main(["predict", str(run_folder), str(tmp_path / "missing.png"), "--out", str(out)]) == 2
    assert "missing.png" in capsys.readouterr().err


def test_made_up_data_from_drawing_to_figures(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data, out = tmp_path / "data", tmp_path / "run"
    assert main(["synth", str(data), "--images", "4", "--seed", "1", "--json"]) == 0
    values = last_line(capsys)
    assert (values["dataset"], values["train"], values["test"]) == ("mvtec_loco", 4, 12)
    assert main(["synth", str(data), "--images", "4"]) == 2  # it is there already
    train = ["train", "--dataset", "mvtec_loco", "--data", str(data), "--out", str(out), "--variant", "lbn"]
    assert main([*train, *BACKBONE]) == 0
    capsys.readouterr()
    assert main(["evaluate", str(out), "--json"]) == 0
    metrics = last_line(capsys)
    assert metrics["images"] == {"good": 4, "logical_anomalies": 4, "structural_anomalies": 4}
    auc_roc, auc_spro = metrics["classification"]["auc_roc"], metrics["localization"]["auc_spro"]
    assert auc_roc["mean"] == metrics["image_auroc"]
    for kind in ("logical_anomalies", "structural_anomalies", "mean"):
        assert 0 <= auc_roc[kind] <= 1
        assert list(auc_spro[kind]) == ["0.01", "0.05", "0.1", "0.3", "1.0"]
    assert main(["evaluate", str(out)]) == 0
    assert "AU-sPRO at FPR 0.05" in capsys.readouterr().out


def test_demo_goes_where_it_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Only how the command is wired: the demo has its own tests."""

    def run(out: Path) -> dict[str, Any]:
        return {"report": str(out / "report.html")}

    monkeypatch.setattr(demo, "run", run)
    monkeypatch.setattr(demo, "summary", lambda found: f"to look at: {found['report']}")
    assert main(["demo", "--out", str(tmp_path), "--json"]) == 0
    assert last_line(capsys) == {"report": str(tmp_path / "report.html")}
    assert main(["demo", "--out", str(tmp_path)]) == 0
    assert capsys.readouterr().out == f"to look at: {tmp_path / 'report.html'}\n"


def test_bench_without_a_gpu_has_no_graph(run_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", str(run_folder), "--device", "cpu", "--cuda-graph"]) == 2
    assert "GraphedScorer: needs a detector on CUDA" in capsys.readouterr().err


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_bench_times_every_stage(
    precision: str, run_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["--device", "cpu", "--repeats", "1", "--precision", precision]
    assert main(["bench", str(run_folder), *options, "--json"]) == 0
    values = last_line(capsys)
    assert values["precision"] == precision
    assert [one["batch"] for one in values["batches"]] == [1, 16]
    assert values["templates"] == 4
    for one in values["batches"]:
        times = one["milliseconds"]
        assert list(times) == ["extractor", "retrieval", "restoration", "scoring", "total"]
        assert all(0 < t["p50"] <= t["p95"] <= t["p99"] for t in times.values())
        assert one["images_per_second"] > 0
        assert one["peak_memory_bytes"] > 1 << 20
