"""greedy_coreset's kernels: subnormal squares, values that are not finite, chunks, launches, barriers. What
it chooses: tests/retrieval.
"""

from __future__ import annotations

from types import ModuleType

import pytest
import torch
from support.retrieval_cases import WAITING, Watch, rows
from support.scoring_cases import superfluous_barriers

import thfr_ext
from thfr_ext.retrieval import cuda as retrieval_cuda
from thfr_ext.retrieval.cuda import greedy_coreset


@pytest.fixture
def order() -> int:
    """One random order of blocks and threads; test_operators.py has the others."""
    return 1


@pytest.mark.parametrize("scale", [1e-310, 1e305])
def test_double_of_the_last_magnitudes(scale: float, device: ModuleType) -> None:
    bank = rows("random", 40, 12, 5).double()
    scaled = bank * scale
    assert torch.equal(greedy_coreset(scaled, 9, 0), thfr_ext.greedy_coreset(scaled, 9))


@pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf])
def test_not_finite(value: float, device: ModuleType) -> None:
    bank = rows("random", 40, 12, 6)
    bank[37, 11] = value
    for size in (1, 2, 5):
        assert greedy_coreset(bank, size, 0).tolist() == [-1] * size


def test_progress(device: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    """Chunks, which begin where the one before has ended, choose the same rows."""
    bank = rows("random", 60, 12, 7)
    whole = greedy_coreset(bank, 23, 1)
    monkeypatch.setattr(retrieval_cuda, "CORESET_CHUNK", 5 * bank.numel())
    seen: list[tuple[int, int]] = []
    assert torch.equal(greedy_coreset(bank, 23, 1, lambda *now: seen.append(now)), whole)
    assert seen == [(5, 23), (10, 23), (15, 23), (20, 23), (23, 23)]
    monkeypatch.setattr(retrieval_cuda, "CORESET_CHUNK", 1)
    assert torch.equal(greedy_coreset(bank, 6, 1, lambda *now: None), whole[:6])


def test_one_launch_an_entry_and_no_waiting(device: ModuleType) -> None:
    bank = rows("random", 60, 12, 8)
    device.statistics()
    with Watch() as watch:
        greedy_coreset(bank, 10, 0)
    assert device.statistics()[0] == 1 + 9 + 1  # magnitudes, steps, the last step's end
    assert watch.names
    assert not [name for name in watch.names if any(word in name for word in WAITING)]


def test_every_barrier_is_needed(device: ModuleType) -> None:
    bank = rows("random", 70, 12, 9)
    expected = thfr_ext.greedy_coreset(bank, 3)
    assert superfluous_barriers(device, lambda: torch.equal(greedy_coreset(bank, 3, 0), expected)) == []
