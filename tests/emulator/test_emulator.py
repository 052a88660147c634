"""The emulator finds faults that were planted: without that, its silence would say nothing."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch

from thfr_ext.core.tensors import view

MISSING_BARRIER, OUT_OF_BOUNDS, WRONG_LANES, DIVERGENT_BARRIER, TOO_MUCH_SHARED = range(1, 6)
VALUES = torch.arange(5 * 64, dtype=torch.float32)
SUMS = VALUES.view(5, 64).sum(1)


def run(emulated: ModuleType, fault: int = 0) -> torch.Tensor:
    sums = torch.full((5,), torch.nan)
    emulated.toy(view(VALUES), view(sums), fault)
    return sums


def test_kernel(device: ModuleType) -> None:
    assert torch.equal(run(device), SUMS)
    assert device.statistics() == (1, 1)


def test_missing_barrier(emulated: ModuleType) -> None:
    """Left out in the source, or dropped by the emulator: some order of the threads shows it."""
    for fault, dropped in ((MISSING_BARRIER, -1), (0, 0)):
        right = 0
        for seed in range(1, 5):
            emulated.set_options(seed=seed, dropped_barrier=dropped)
            right += torch.equal(run(emulated, fault), SUMS)
        emulated.set_options()
        assert right == 0


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        (WRONG_LANES, "a lane outside its mask"),
        (DIVERGENT_BARRIER, "wait at the barriers of lines"),
        (TOO_MUCH_SHARED, "invalid"),
    ],
)
def test_failed_launch(device: ModuleType, fault: int, words: str) -> None:
    with pytest.raises(RuntimeError, match=words):
        run(device, fault)
    assert torch.equal(run(device), SUMS)  # no fault is left behind


def test_out_of_bounds(emulated: ModuleType) -> None:
    """A sanitizer ends the process."""
    here = Path(__file__).parent
    code = (
        f"import sys; sys.path[:0] = [{os.environ['THFR_EMULATED']!r}, {str(here)!r}]\n"
        "import _emulated, test_emulator\n"
        "test_emulator.run(_emulated, test_emulator.OUT_OF_BOUNDS)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.returncode != 0
    assert "index 2 out of bounds" in done.stderr or "heap-buffer-overflow" in done.stderr
