"""`thfr ablate` end to end, through `main` and real processes."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from thfr.cli import main
from thfr.evaluation import evaluate_run
from thfr.runs.lock import locked
from thfr.study import runner

Call = Callable[..., tuple[int, dict[str, Any]]]


@pytest.fixture(scope="module")
def templates_study(
    data: Path, tiny: list[str], tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, list[str]]:
    out = tmp_path_factory.mktemp("study") / "out"
    command = ["ablate", "templates", "--data", str(data), "--category", "plate", "--out", str(out), *tiny]
    command += ["--seeds", "3", "--ratios", "1", "0.5", "--keep-runs"]
    assert main(command) == 0
    return out, command


def test_templates_are_subsampled_after_one_training(templates_study: tuple[Path, list[str]]) -> None:
    out, _ = templates_study
    report = json.loads((out / "templates.json").read_text())
    rows = {tuple(row["evaluation"].values()): row for row in report["rows"]}
    assert list(rows) == [
        ("nearest", None, None),
        ("nearest", 0.5, "random"),
        ("nearest", 0.5, "coreset"),
        ("random", None, None),
    ]
    assert [row["templates"] for row in rows.values()] == [4, 2, 2, 4]
    similarity = [row["figures"]["similarity.key"]["mean"] for row in rows.values()]
    assert all(similarity[0] >= other > 0 for other in similarity[1:])
    assert all(row["seeds"] == [3] for row in rows.values())
    assert len(list((out / "trials").iterdir())) == len(list((out / "runs").iterdir())) == 1
    for name in ("templates.csv", "templates-plate.pdf", "templates-plate.png"):
        assert str(out / name) in report["files"]
        assert (out / name).stat().st_size > 100
    assert report["failed"] == {}


def test_synthetic_anomalies_where_good_images_are_held_out(
    templates_study: tuple[Path, list[str]], data: Path, tiny: list[str], tmp_path: Path, call: Call
) -> None:
    without = json.loads((templates_study[0] / "templates.json").read_text())["rows"][0]
    assert without["figures"]["synthetic.image_auroc"] is None
    grid = ["ablate", "grid", "--set", "training.holdout=0.5", "--data", data, "--category", "plate"]
    code, report = call(*grid, "--seeds", 0, "--out", tmp_path / "out", *tiny)
    assert code == 0
    figures = report["rows"][0]["figures"]
    assert all(0 <= figures[f"synthetic.{name}"]["mean"] <= 1 for name in ("image_auroc", "au_pro"))
    kinds = [figures[f"synthetic.{name}"]["mean"] for name in ("logical", "structural")]
    assert figures["synthetic.image_auroc"]["mean"] == pytest.approx((4 * kinds[0] + 3 * kinds[1]) / 7)
    assert "synthetic.au_pro mean" in (tmp_path / "out" / "grid.csv").read_text()


def test_a_trial_says_what_it_was_made_of(templates_study: tuple[Path, list[str]]) -> None:
    out, _ = templates_study
    trial = json.loads(next((out / "trials").iterdir()).read_text())
    assert trial["data"]["train"]["images"] == {"good": 4}
    assert trial["data"]["test"]["sizes"] == {"48x40": 4}
    assert len(trial["data"]["test"]["sha256"]) == len(trial["run"]["weights_digest"]) == 64
    assert trial["trained"]["dataset"]["pixels_sha256"]
    assert trial["config"]["training"]["seed"] == 3
    assert trial["run"]["train_seconds"] > 0
    assert trial["peak_memory_bytes"] > 1 << 20
    assert {"thfr-ext", "torch", "timm", "python"} <= set(trial["versions"])


def test_a_trial_has_the_figures_of_evaluate(templates_study: tuple[Path, list[str]]) -> None:
    out, _ = templates_study
    trial = json.loads(next((out / "trials").iterdir()).read_text())
    metrics = evaluate_run(next((out / "runs").iterdir()), device="cpu")
    for name in ("image_auroc", "pixel_auroc", "au_pro", "images"):
        assert trial["results"][0]["metrics"][name] == pytest.approx(metrics[name], abs=1e-6)
    assert trial["data"] == metrics["data"]


def test_nothing_is_done_twice(
    templates_study: tuple[Path, list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    out, command = templates_study

    def never(*_: Any, **__: Any) -> None:
        raise AssertionError("a finished trial was started again")

    monkeypatch.setattr(runner.subprocess, "Popen", never)
    before = (out / "templates.csv").read_bytes()
    assert main(command) == 0
    assert (out / "templates.csv").read_bytes() == before


def test_a_failed_trial_is_named_and_the_others_go_on(
    data: Path, tiny: list[str], tmp_path: Path, call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    decoy = tmp_path / "here" / "thfr" / "__init__.py"  # a worker must not import from the current folder
    decoy.parent.mkdir(parents=True)
    decoy.write_text("raise ImportError('imported from the current folder')")
    monkeypatch.chdir(tmp_path / "here")
    command = [
        "ablate",
        "grid",
        "--data",
        data,
        "--out",
        tmp_path,
        *tiny,
        "--seeds",
        0,
        "--category",
        "plate",
    ]
    command += ["--set", "training.learning_rate=1e38,1e-3", "--set", "model.variant=lbn"]
    code, values = call(*command)
    assert code == 1
    ((name, reason),) = values["failed"].items()
    assert "learning_rate=1e+38" in name
    assert "the loss is nan" in reason or "the loss is inf" in reason
    (row,) = values["rows"]
    assert row["setting"] == {"training.learning_rate": 1e-3, "model.variant": "lbn"}
    with (tmp_path / "grid.csv").open() as file:
        (line,) = csv.DictReader(file)
    assert float(line["image_auroc mean"]) == row["figures"]["image_auroc"]["mean"]
    assert line["model.variant"] == "lbn"


def test_it_is_resumed_after_kill_9(data: Path, tiny: list[str], tmp_path: Path, call: Call) -> None:
    command = ["ablate", "bottleneck", "--data", data, "--out", tmp_path, *tiny, "--epochs", 6, "--seeds", 0]
    command = [*map(str, command), "--category", "plate", "--channels", "16", "32"]
    parent = subprocess.Popen([sys.executable, "-m", "thfr", *command], start_new_session=True)
    deadline = time.monotonic() + 600
    # until one trial is done and the next one at work
    while not list(tmp_path.glob("trials/*.json")) or not list(tmp_path.glob("runs/*/log.jsonl")):
        assert time.monotonic() < deadline
        assert parent.poll() is None
        time.sleep(0.01)
    os.kill(parent.pid, signal.SIGKILL)
    parent.wait()
    assert len(list(tmp_path.glob("trials/*.json"))) == 1
    first = {path: path.stat().st_mtime_ns for path in tmp_path.glob("trials/*.json")}
    with locked(tmp_path, "test", patience=600):  # until the worker, too, has ended
        pass
    code, values = call(*command)
    assert code == 0
    assert {row["setting"]["model.bottleneck_channels"] for row in values["rows"]} == {16, 32}
    assert len(list(tmp_path.glob("trials/*.json"))) == 2
    assert all(path.stat().st_mtime_ns == written for path, written in first.items())


def test_a_folder_is_one_command_s(
    data: Path, tiny: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.setattr(runner, "_LOCK_SECONDS", 0.0)
    with locked(tmp_path, "test"):
        assert main(["ablate", "structure", "--data", str(data), "--out", str(tmp_path), *tiny]) == 2
    assert "another process is at work in" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["grid", "--set", "model.depth=1,2"], "model.depth"),
        (["grid", "--set", "model.variant"], "expected NAME=VALUE"),
        (["grid", "--set", "model.size=64", "--set", "model.size=96"], "given twice"),
        (["grid", "--set", "training.seed=1,2"], "--seeds"),
        (["grid", "--set", "dataset.name=a"], "dataset"),
        (["bottleneck", "--channels", "17"], "model.bottleneck_channels"),
        (["templates", "--ratios", "0"], "ratios must be in"),
        (["structure", "--category", "cup"], "no category 'cup'"),
    ],
)
def test_wrong_input_is_found_before_any_training(
    options: list[str], message: str, data: Path, tiny: list[str], tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    assert main(["ablate", *options, "--data", str(data), "--out", str(tmp_path / "out"), *tiny]) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
