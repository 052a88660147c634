"""greedy_coreset on the emulator, against the plain loop in long double."""

from __future__ import annotations

from types import ModuleType

import numpy as np
import pytest
import torch
from support.retrieval_cases import DTYPES, KINDS, LAYOUTS, WAITING, Watch, rows
from support.scoring_cases import superfluous_barriers
from torch import Tensor

import thfr_ext
from thfr_ext import reference
from thfr_ext.retrieval import cuda as retrieval_cuda
from thfr_ext.retrieval.cuda import greedy_coreset


@pytest.fixture
def order() -> int:
    """One random order of blocks and threads; test_operators.py has the others."""
    return 1


def plain_loop(bank: Tensor, size: int, seed: int) -> list[int]:
    x = bank.double().numpy().astype(np.longdouble)
    chosen = [reference.first_coreset_index(len(bank), seed)]
    nearest = np.full(len(x), np.inf, np.longdouble)
    while len(chosen) < size:
        nearest = np.minimum(nearest, ((x - x[chosen[-1]]) ** 2).sum(1))
        left = nearest.astype(np.float64)
        left[chosen] = -1
        chosen.append(int(left.argmax()))
    return chosen


def check(bank: Tensor, size: int, seed: int = 0) -> None:
    assert greedy_coreset(bank, size, seed).tolist() == plain_loop(bank, size, seed)


@pytest.mark.parametrize("kind", KINDS)
def test_against_the_loop(kind: str, device: ModuleType) -> None:
    bank = rows(kind, 110, 19, 1)
    for size in (1, 9):
        check(bank, size, 5)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_dtypes_and_strides(layout: str, dtype: torch.dtype, device: ModuleType) -> None:
    check(LAYOUTS[layout](rows("random", 40, 24, 2).to(dtype)), 10)
    check(LAYOUTS[layout](rows("random", 9, 21, 2).to(dtype)), 9)


@pytest.mark.parametrize("shape", [(1, 1), (2, 1), (1, 300), (33, 7), (6, 2049), (5, 9 * 2048 + 1)])
def test_shapes(shape: tuple[int, int], device: ModuleType) -> None:
    check(rows("random", *shape, 3), shape[0], 11)


@pytest.mark.parametrize("kind", ["constant", "zero", "tied"])
def test_every_row_once(kind: str, device: ModuleType) -> None:
    bank = rows(kind, 47, 5, 4)
    chosen = greedy_coreset(bank, 47, 0)
    assert sorted(chosen.tolist()) == list(range(47))
    assert torch.equal(chosen, thfr_ext.greedy_coreset(bank, 47))


@pytest.mark.parametrize("scale", [1e-310, 1e-200, 1e200, 1e305])
def test_double_beyond_the_range_of_squares(scale: float, device: ModuleType) -> None:
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
