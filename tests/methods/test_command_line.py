"""Methods of every kind through every command, on tiny data."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from thfr import THFR
from thfr.cli import main
from thfr.errors import InputError
from thfr.methods.registry import method_names, read_config

SIZE = 64
# one that compares with a memory, one that restores nothing and has no backbone, and THFR
SMALL: dict[str, dict[str, Any]] = {
    "thfr": {"model": {"bottleneck_channels": 16}, "training": {"epochs": 1, "min_steps": 0}},
    "padim": {"model": {"dimension": 20, "stride": 8}},
    "draem": {
        "model": {"reconstruction_width": 2, "discrimination_width": 2, "network_size": None, "smoothing": 5},
        "training": {"max_steps": 2, "batch_size": 2},
    },
}

Trained = Callable[[str], Path]


@pytest.fixture(scope="module")
def trained(plates: Path, tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """A run of a method, trained when it is first asked for."""
    from thfr.study.comparison import smaller

    runs: dict[str, Path] = {}

    def run(method: str) -> Path:
        if method not in runs:
            folder = tmp_path_factory.mktemp(method)
            (folder / "budget.yaml").write_text(yaml.safe_dump(merged(smaller(method), SMALL[method])))
            command = ["train", "--method", method, "--dataset", "mvtec_ad", "--data", str(plates)]
            command += ["--category", "plate", "--backbone", "tf_efficientnet_lite0", "--size", str(SIZE)]
            command += ["--config", str(folder / "budget.yaml"), "--holdout", "0.25", "--device", "cpu"]
            assert main([*command, "--out", str(folder / "run")]) == 0
            runs[method] = folder / "run"
        return runs[method]

    return run


def merged(first: dict[str, Any], second: dict[str, Any]) -> dict[str, Any]:
    sections = first.keys() | second.keys()
    return {name: {**first.get(name, {}), **second.get(name, {})} for name in sections}


@pytest.mark.parametrize("method", SMALL)
def test_a_run_is_evaluated_predicted_calibrated_and_shown(
    method: str, trained: Trained, plates: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = trained(method)
    assert main(["evaluate", str(run), "--device", "cpu", "--json"]) == 0
    metrics = json.loads((run / "metrics.json").read_text())
    assert metrics["model"]["method"] == method
    assert 0 <= metrics["image_auroc"] <= 1
    test = plates / "plate" / "test" / "scratch"
    assert main(["predict", str(run), str(test), "--out", str(tmp_path / "found"), "--device", "cpu"]) == 0
    found = json.loads((tmp_path / "found" / "scores.json").read_text())
    assert len(found["images"]) == 2
    assert all(image["verdict"] in ("good", "bad") for image in found["images"])
    assert main(["calibrate", str(run), "--false-alarm-rate", "0.5"]) == 0
    assert main(["report", str(run), "--out", str(tmp_path / "report.html"), "--device", "cpu"]) == 0
    assert "scratch" in (tmp_path / "report.html").read_text()
    assert main(["gallery", str(run), "--out", str(tmp_path / "gallery"), "--device", "cpu"]) == 0
    capsys.readouterr()
    assert main(["bench", str(run), "--repeats", "1", "--device", "cpu", "--json"]) == 0
    times = json.loads(capsys.readouterr().out.splitlines()[-1])["batches"][0]["milliseconds"]
    named = sum(time["p50"] for stage, time in times.items() if stage != "total")
    assert 0 < named <= 1.001 * times["total"]["p50"]


@pytest.mark.parametrize("option", ["--variant=gl", "--decoder=light", "--parts=all"])
@pytest.mark.parametrize("method", [method for method in method_names() if method != "thfr"])
def test_what_only_thfr_has_is_refused(
    method: str, option: str, plates: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["train", "--method", method, option, "--dataset", "mvtec_ad", "--data", str(plates)]
    assert main([*command, "--category", "plate", "--out", "unused"]) == 2
    assert f"model.{option[2:].partition('=')[0]}" in capsys.readouterr().err


def test_options_of_thfr(plates: Path, tmp_path: Path) -> None:
    options = ["--decoder", "light", "--parts", "all", "--epochs", "1", "--out", str(tmp_path / "run")]
    seen = ["--backbone", "tf_efficientnet_lite0", "--size", str(SIZE)]
    data = ["--dataset", "mvtec_ad", "--data", str(plates), "--category", "plate"]
    assert main(["train", *data, *seen, *options]) == 0
    model = read_config(tmp_path / "run" / "config.yaml").model
    assert (model.decoder, model.parts) == ("light", "all")


def test_a_run_of_another_method_is_not_resumed(
    trained: Trained, plates: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["train", "--method", "padim", "--dataset", "mvtec_ad", "--data", str(plates)]
    command += ["--category", "plate", "--backbone", "tf_efficientnet_lite0", "--size", str(SIZE)]
    assert main([*command, "--out", str(trained("draem"))]) == 2
    assert "holds a run of the method draem, not padim" in capsys.readouterr().err


def test_pictures_need_a_method_that_restores_features(
    trained: Trained, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["visualize", str(trained("padim")), "--device", "cpu"]) == 2
    assert "PaDiM, which restores no features" in capsys.readouterr().err


def test_weights_are_refused_where_no_backbone_is_used(
    trained: Trained, plates: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert not (trained("draem") / "backbone.safetensors").exists()
    weights = tmp_path / "weights.safetensors"
    weights.touch()
    command = ["train", "--method", "draem", "--dataset", "mvtec_ad", "--data", str(plates), "--size", "64"]
    command += ["--category", "plate", "--weights", str(weights), "--out", str(tmp_path / "run")]
    assert main(command) == 2
    assert "DRAEM uses no backbone" in capsys.readouterr().err


def test_the_estimator_loads_runs_of_thfr_only(trained: Trained) -> None:
    assert THFR.load(trained("thfr"), "cpu").variant == "thfr"
    with pytest.raises(InputError, match="is a run of PaDiM"):
        THFR.load(trained("padim"), "cpu")
