"""Every script in examples/ runs, small, as a process of its own."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
SMALL = {
    "add_a_method": ["--out", "out", "--images", "3", "--size", "64"],
    "evaluate_maps": [],
    "kernels_in_training": ["--steps", "40"],
    "streaming_metrics": ["--batches", "2", "--edge", "64"],
    "train_and_predict": ["--out", "out", "--images", "3", "--size", "64", "--epochs", "1"],
}


def run(name: str, folder: Path) -> str:
    """What the example prints."""
    command = [sys.executable, str(EXAMPLES / f"{name}.py"), *SMALL[name]]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_every_example_is_run_here() -> None:
    elsewhere = {"score_on_ray"}  # tests/study/test_ray.py
    assert {path.stem for path in EXAMPLES.glob("*.py")} == set(SMALL) | elsewhere
    for name in SMALL:
        assert 'if __name__ == "__main__":' in (EXAMPLES / f"{name}.py").read_text(encoding="utf-8")


def test_add_a_method(tmp_path: Path) -> None:
    figures = json.loads(run("add_a_method", tmp_path))
    assert figures["dataset"] == "mvtec_loco"
    assert 0.5 < figures["pixel_auroc"] <= 1  # better than chance with three images
    assert (tmp_path / "out" / "run" / "run.json").is_file()


def test_evaluate_maps(tmp_path: Path) -> None:
    figures = {line[:20].strip(): float(line[20:]) for line in run("evaluate_maps", tmp_path).splitlines()}
    assert set(figures) == {"image AUROC", "pixel AUROC", "AU-PRO to FPR 0.3"}
    assert all(0.95 < value <= 1 for value in figures.values())  # dark scratches on a bright texture


def test_kernels_in_training(tmp_path: Path) -> None:
    *steps, last = run("kernels_in_training", tmp_path).splitlines()
    losses = [float(line.split()[-1]) for line in steps]
    assert losses[-1] < losses[0]
    row, column = int(last.split("row ")[1].split(",")[0]), int(last.split("column ")[1].split()[0])
    assert 32 <= row < 56
    assert 32 <= column < 56


def test_streaming_metrics(tmp_path: Path) -> None:
    lines = run("streaming_metrics", tmp_path).splitlines()
    at_once, streamed, merged = (float(line[26:34]) for line in lines[:3])
    assert at_once == streamed == merged
    assert abs(float(lines[3][26:34]) - at_once) <= float(lines[3].split()[-1]) + 1e-6


def test_train_and_predict(tmp_path: Path) -> None:
    lines = run("train_and_predict", tmp_path).splitlines()
    pictures = list((tmp_path / "out" / "maps").rglob("*.png"))
    assert len(lines) == len(pictures) == 12  # 4 of each kind
    assert {line.split()[0] for line in lines} <= {"good", "bad"}


@pytest.mark.parametrize("name", ["evaluate_maps", "train_and_predict"])
def test_half_of_the_inputs_is_an_error(name: str, tmp_path: Path) -> None:
    option = {"evaluate_maps": ["--data", "x"], "train_and_predict": ["--out", "out", "--good", "x"]}[name]
    command = [sys.executable, str(EXAMPLES / f"{name}.py"), *option]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 2
    assert "give both" in done.stderr
