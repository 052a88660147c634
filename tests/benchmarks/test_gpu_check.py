"""What `make gpu-check` does around the GPU: steps, their time, what ptxas says."""

from __future__ import annotations

import importlib
import subprocess
import sys
import time
from pathlib import Path
from types import ModuleType

import pytest
import torch

FOLDER = Path(__file__).parents[2] / "benchmarks"

PTXAS = """\
ptxas info    : 0 bytes gmem
ptxas info    : Compiling entry function '_Z3addPf' for 'sm_90'
ptxas info    : Function properties for _Z3addPf
    16 bytes stack frame, 8 bytes spill stores, 4 bytes spill loads
ptxas info    : Used 32 registers, used 1 barriers, 2048 bytes smem, 600 bytes cmem[0]
ptxas info    : Compiling entry function '_Z3subPf' for 'sm_90'
ptxas info    : Function properties for _Z3subPf
    0 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads
ptxas info    : Used 12 registers, used 0 barriers, 600 bytes cmem[0]
"""


@pytest.fixture
def gpu_check(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(FOLDER))
    return importlib.import_module("gpu_check")


def test_registers_and_spills(gpu_check: ModuleType) -> None:
    add, sub = gpu_check.kernels_of(PTXAS)
    assert add["kernel"].startswith(("add", "_Z3add"))
    assert (add["arch"], add["registers"], add["shared"], add["spills"]) == ("sm_90", 32, 2048, 12)
    assert (sub["registers"], sub["shared"], sub["spills"], sub["stack"]) == (12, 0, 0, 0)


def test_a_failed_step_is_told_and_stops_no_other(gpu_check: ModuleType, tmp_path: Path) -> None:
    written: list[int] = []
    steps = gpu_check.Steps(tmp_path, 60, [], lambda record: written.append(len(record)))
    assert steps.run("good", [sys.executable, "-c", "import os; print(os.environ['WORD'])"], 30, WORD="so")
    assert not steps.run("bad", [sys.executable, "-c", "raise SystemExit(3)"], 30)
    assert not steps.run("slow", [sys.executable, "-c", "import time; time.sleep(60)"], 5.5)
    assert not steps.run("absent", [str(tmp_path / "no-such-tool")], 30)
    steps.end = 0.0
    assert not steps.run("late", [sys.executable, "-c", ""], 30)
    ended = {one["step"]: one["ended"] for one in steps.record}
    assert ended["good"] == 0
    assert ended["bad"] == 3
    assert "out of time" in ended["slow"]
    assert all("not run" in str(ended[name]) for name in ("absent", "late"))
    assert steps.record[0]["last_line"] == "so"
    assert written == [1, 2, 3, 4, 5]


def test_only_some_steps(gpu_check: ModuleType, tmp_path: Path) -> None:
    steps = gpu_check.Steps(tmp_path, 60, ["two"], lambda record: None)
    assert all(steps.run(name, [sys.executable, "-c", ""], 30) for name in ("one", "two"))
    assert [one["step"] for one in steps.record] == ["two"]


def test_what_a_step_has_started_ends_with_it(gpu_check: ModuleType, tmp_path: Path) -> None:
    """Nothing keeps the card: the grandchild would write after a second."""
    late = f"import time; time.sleep(2); open({str(tmp_path / 'late')!r}, 'w')"
    start = f"import subprocess, sys; subprocess.Popen([sys.executable, '-c', {late!r}])"
    steps = gpu_check.Steps(tmp_path, 60, [], lambda record: None)
    assert steps.run("start", [sys.executable, "-c", start], 30)
    time.sleep(3)
    assert not (tmp_path / "late").exists()


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_without_a_gpu_nothing_is_written(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, FOLDER / "gpu_check.py", "--out", tmp_path],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert "torch sees no CUDA device" in done.stderr
    assert not list(tmp_path.iterdir())
