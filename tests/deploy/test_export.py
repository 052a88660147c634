"""``thfr export``: the gate, what it refuses, and that nothing is left behind."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from copy import copy
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from thfr.cli import main
from thfr.deploy.export import operators, parity
from thfr.deploy.export import run as export
from thfr.deploy.export.graph import NOT_EXPORTABLE, trace
from thfr.deploy.export.images import calibration_paths, planted
from thfr.deploy.export.parity import Parity
from thfr.deploy.export.run import export_run, exported_limit
from thfr.deploy.exported import load
from thfr.errors import InputError
from thfr.io import ReadOptions
from thfr.methods import method_names
from thfr.methods.thfr import THFRDetector
from thfr.runs import files
from thfr.runs.threshold import Threshold
from torch import Tensor, nn

import thfr_ext

from .conftest import SIZE, pictures


class Brightness(nn.Module):
    """A graph that says something else than the run."""

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        anomaly_map = image.float().mean(3)
        score = anomaly_map.amax((1, 2))
        return anomaly_map, score, score > 1


def test_a_model_that_says_something_else_is_not_written(
    run_folder: Path,
    good_folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    image = torch.zeros((2, SIZE, SIZE, 3), dtype=torch.uint8)
    batch = torch.export.Dim("batch", min=1, max=64)
    other = torch.export.export(Brightness(), (image,), dynamic_shapes=({0: batch},))
    monkeypatch.setattr(export, "trace", lambda *given: other)
    out = tmp_path / "model"
    arguments = ["export", str(run_folder), "--out", str(out), "--images", str(good_folder)]
    assert main([*arguments, "--format", "torch", "--json"]) == 1
    found = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert found["out"] is None
    assert re.search(r"of a score: .* of a map: .*verdicts", found["error"])
    assert found["parity"]["changed"]
    assert not found["parity"]["passed"]
    assert list(tmp_path.iterdir()) == []


def test_the_gate() -> None:
    """Each figure alone closes it, and so does NaN."""
    within = Parity(10, 20, "images", 1e-4, 1e-3, 1.0, 1.0, 1e-4, 1e-3, (), 0, 5, 0.5, 0.5)
    assert within.passed
    for wrong in (
        {"score_difference": 1.1e-4},
        {"map_difference": 1.1e-3},
        {"changed": ("a.png",)},
        {"score_difference": float("nan")},
        {"map_difference": float("nan")},
        {"noise": 0.51},
        {"noise": float("nan")},
    ):
        assert len(replace(within, **wrong).failures()) == 1
    assert replace(within, noise=None).passed


def test_noise_is_told_in_deviations_of_the_good_scores() -> None:
    scores = np.array([1.0, 3.0, 5.0], np.float32)  # standard deviation 2
    assert parity._noise(scores, scores + 1) == pytest.approx(0.5)
    assert parity._noise(scores, scores + np.array([0, 3, 0], np.float32)) == pytest.approx(3**0.5 / 2)
    assert parity._noise(scores[:1], scores[:1]) is None
    assert parity._noise(scores * 0, scores) is None


_KILLED = """
import sys, time
from thfr.deploy.export import formats, run
def write(program, format, folder, calibration):
    (folder / "model.pt2").write_bytes(b"half of it")
    print("writing", flush=True)
    time.sleep(600)
formats.write = write
run.trace = lambda *given: None  # takes long, and writes nothing
run.export_run(sys.argv[1], sys.argv[2], "torch", sys.argv[3])
"""


def test_a_killed_export_leaves_no_folder(
    run_folder: Path,
    good_folder: Path,
    program: torch.export.ExportedProgram,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    out = tmp_path / "model"
    command = [sys.executable, "-c", _KILLED, str(run_folder), str(out), str(good_folder)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == "writing\n"
        os.kill(child.pid, signal.SIGKILL)
    assert not out.exists()
    assert [path.name for path in tmp_path.glob(".model.*/*")] == ["model.pt2"]
    monkeypatch.setattr(export, "trace", lambda *given: program)
    export.export_run(run_folder, out, "torch", good_folder)
    assert list(tmp_path.iterdir()) == [out], "what the killed one left is gone"
    assert sorted(path.name for path in out.iterdir()) == ["export.json", "model.pt2", "parity.json"]
    assert load(out, threads=1).score(pictures(2)).verdicts


def test_what_is_refused(
    detector: THFRDetector,
    run_folder: Path,
    good_folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").touch()
    with pytest.raises(InputError, match="export: out must be a new or empty folder"):
        export_run(run_folder, tmp_path / "full", "torch", good_folder)
    with pytest.raises(InputError, match=r"export: the calibration images of .* --images FOLDER"):
        export_run(run_folder, tmp_path / "out", "torch")
    unset = tmp_path / "unset"
    unset.mkdir()
    for path in run_folder.iterdir():
        if path.name != files.THRESHOLD:
            (unset / path.name).symlink_to(path)
    with pytest.raises(InputError, match=r"export: .* has no threshold.*thfr calibrate"):
        export_run(unset, tmp_path / "out", "torch", good_folder)
    monkeypatch.setitem(NOT_EXPORTABLE, "thfr", "it is in the test")
    with pytest.raises(InputError, match="export: thfr cannot be exported: it is in the test"):
        trace(detector, 1.0)
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    with pytest.raises(InputError, match=r"needs the package onnx.*thfr-ext\[onnx\]"):
        export_run(run_folder, tmp_path / "out", "onnx", good_folder)
    assert not (tmp_path / "out").exists()


def test_the_calibration_images_are_those_of_the_run(
    detector: THFRDetector, good_folder: Path, tmp_path: Path
) -> None:
    held = {"dataset": "folder", "root": str(good_folder.parent), "category": good_folder.name}
    (tmp_path / files.DATA).write_text(json.dumps(held))
    with pytest.raises(InputError, match="kept no images for its threshold"):
        calibration_paths(tmp_path, detector, None)
    training = detector.config.training.model_copy(update={"holdout": 0.2})
    other = copy(detector)
    other.config = detector.config.model_copy(update={"training": training})
    paths, words = calibration_paths(tmp_path, other, None)
    assert len(paths) == 2
    assert {path.parent for path in paths} == {good_folder}
    assert words == "the run's calibration images"
    made = planted(paths, ReadOptions())
    assert len(made) == 20
    assert len({image.tobytes() for image in made}) == 20


def test_the_limit_lies_between_the_threshold_and_the_next_score() -> None:
    def limit(scores: list[float]) -> tuple[float, float]:
        threshold = Threshold.from_scores(scores, 0.4, "images")  # the third of four
        return threshold.value, exported_limit(threshold)

    value, wide = limit([1.0, 2.0, 3.0, 4.0])
    assert value == 3
    assert value < wide < value * 1.0001
    following = float(np.nextafter(np.float32(2), np.float32(3)))
    assert limit([1.0, 1.5, 2.0, following]) == (2.0, 2.0)
    value, narrow = limit([1.0, 1.5, 2.0, 2.000002])
    assert value < narrow < 2.000002
    assert float(np.float32(narrow)) == narrow
    value, negative = limit([-4.0, -3.0, -2.0, -1.0])
    assert value < negative < -1


@pytest.mark.parametrize("metric", ["cosine", "l2"])
def test_neighbours_are_those_of_the_kernel(metric: str) -> None:
    rng = torch.Generator().manual_seed(0)
    bank = torch.rand(200, 300, generator=rng) + 5  # far from the origin: the product alone would cancel
    queries = bank[:50] + 1e-2 * torch.rand(50, 300, generator=rng)
    wanted = thfr_ext.nearest_templates(queries, bank, k=3, metric=metric)
    found = operators.nearest_templates(queries, bank, 3, metric)
    assert torch.equal(found[1], wanted[1])
    torch.testing.assert_close(found[0], wanted[0], rtol=1e-5, atol=1e-6)


def test_a_bank_may_be_smaller_than_the_candidates() -> None:
    bank = torch.eye(2)
    scores, indices = operators.nearest_templates(bank, bank.half(), 2, "l2")
    assert indices.tolist() == [[0, 1], [1, 0]]
    torch.testing.assert_close(scores, torch.tensor([[0, 2**0.5], [0, 2**0.5]]))


def test_the_documented_table_is_that_of_the_code() -> None:
    text = (Path(__file__).resolve().parents[2] / "docs" / "export.md").read_text(encoding="utf-8")
    for name in method_names():
        reason = NOT_EXPORTABLE.get(name)
        assert f"\n| {name} | {'yes' if reason is None else f'no: {reason}'} |\n" in text


def test_the_functions_come_back_after_tracing() -> None:
    before = thfr_ext.anomaly_map
    with operators.plain_operators():
        assert thfr_ext.anomaly_map is operators.anomaly_map
    assert thfr_ext.anomaly_map is before
