"""The benchmarks' own arithmetic, and that what they compare with computes the same thing."""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
import torch

import thfr_ext

FOLDER = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture(autouse=True)
def neighbours(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(FOLDER))


@pytest.fixture
def harness() -> ModuleType:
    return importlib.import_module("harness")


def test_ratio_floor_and_targets(harness: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]  # a clock that no load moves

    def takes(seconds: float) -> Callable[[], None]:
        def call() -> None:
            now[0] += seconds

        return call

    monkeypatch.setattr(harness, "read_bandwidth", lambda device: {"read": 1e10, "copy": 1e10})
    monkeypatch.setattr(harness, "time", SimpleNamespace(perf_counter=lambda: now[0]))
    calls = {"thfr_ext": takes(0.002), "slow": takes(0.02), "easier": takes(0.001)}
    work = harness.Work(
        calls,
        1000,
        10,
        lambda results: {"slow": 0.5 * len(results) / 3},
        notes={"easier": "solves half of it"},
    )
    targets = (("slow", 2.0), ("slow", 1000.0), ("best", 2.0), ("absent", 1.0))
    result = harness.measure(harness.Case("naps", lambda: work, targets, threads=1), 0.2)
    assert result["contenders"]["slow"]["ratio"] == pytest.approx(10)
    assert result["contenders"]["easier"]["ratio"] == pytest.approx(0.5)
    assert result["floor_seconds"] == pytest.approx(1e-7)
    # What is easier is no rival, and what did not run has met nothing.
    assert [t["met"] for t in result["targets"]] == [True, False, True, False]
    lines = "\n".join(harness.table(result))
    assert "solves half of it" in lines
    assert "not measured, MISSED" in lines
    assert "difference to slow: 5.0e-01" in lines


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="no peak of memory here")
def test_peak_is_of_the_call(harness: ModuleType) -> None:
    assert harness.peak_growth(lambda: np.ones(50_000_000, np.uint8)) == pytest.approx(50e6, rel=0.1)
    assert harness.peak_growth(lambda: None) < 5e6


def test_rivals_of_the_sweeps_agree() -> None:
    rivals = importlib.import_module("sweep_rivals")
    maps, masks = rivals.make_images(6, 128, 192)
    regions, saturations = rivals.make_regions(masks)
    assert thfr_ext.au_pro(maps, masks) == pytest.approx(rivals.argsort_au_pro(maps, masks, 0.3), abs=1e-12)
    assert thfr_ext.auroc(maps, masks) == pytest.approx(rivals.argsort_auroc(maps, masks), abs=1e-12)
    exact = thfr_ext.au_spro(list(maps), regions, saturations, rivals.LIMITS)
    by_sorting = rivals.argsort_au_spro(maps, regions, saturations, rivals.LIMITS)
    assert list(exact.values()) == pytest.approx(by_sorting, abs=1e-12)
    by_loop = rivals.threshold_au_spro(maps, regions, saturations, rivals.LIMITS)
    assert list(exact.values()) == pytest.approx(by_loop, abs=2e-3)


def test_rivals_of_scoring_agree() -> None:
    scoring = importlib.import_module("bench_scoring")
    levels = scoring.make_levels("fp32", "channels_last")
    features, restored = ([t[:8, :32] for t in side] for side in levels)
    ours, _ = thfr_ext.anomaly_map(features, restored, scoring.SIZE, scoring.SIGMA)
    theirs, _ = scoring.eager_map(features, restored)
    torch.testing.assert_close(ours[:, 20:-20, 20:-20], theirs[:, 20:-20, 20:-20], rtol=0, atol=1e-5)


def test_every_case_has_a_name_and_a_target_that_can_be_met() -> None:
    run = importlib.import_module("run")
    cases = run.all_cases()
    assert len(cases) == sum(len(module.cases()) for module in run.ALL_COMPONENTS.values())
    assert all(least > 0 for case in cases.values() for _, least in case.targets)


def test_one_command_writes_a_record(tmp_path: Path) -> None:
    out = tmp_path / "record.json"
    options = ["--cases", "330x350x1792 l2", "--budget", "0.2", "--out", str(out)]
    done = subprocess.run(
        [sys.executable, FOLDER / "run.py", "retrieval", *options],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    record = json.loads(out.read_text())
    (case,) = record["cases"]
    assert {"thfr_ext", "cdist + topk"} <= set(case["contenders"])
    assert case["contenders"]["thfr_ext"]["ratio"] == 1
    assert case["contenders"]["cdist + topk"]["p99"] >= case["contenders"]["cdist + topk"]["p50"]
    assert "target: 0.952" in done.stdout
