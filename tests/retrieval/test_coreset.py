"""greedy_coreset on every device, against the plain loop in long double."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from support.device import Device
from support.retrieval_cases import DTYPES, KINDS, LAYOUTS, rows
from torch import Tensor

import thfr_ext
from thfr_ext import reference


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


def check(device: Device, bank: Tensor, size: int, seed: int = 0) -> None:
    expected = plain_loop(bank, size, seed)
    assert device.greedy_coreset(bank, size, seed).tolist() == expected
    if device.name == "cpu":
        assert reference.greedy_coreset(bank, size, seed).tolist() == expected


@pytest.mark.parametrize("kind", KINDS)
def test_against_the_loop(kind: str, device: Device) -> None:
    bank = rows(kind, 110, 67, 1)
    for size in (1, 2, 40 if device.name == "cpu" else 9):
        check(device, bank, size, 5)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_dtypes_and_strides(layout: str, dtype: torch.dtype, device: Device) -> None:
    check(device, LAYOUTS[layout](rows("random", 40, 24, 2).to(dtype)), 10)
    check(device, LAYOUTS[layout](rows("random", 9, 21, 2).to(dtype)), 9)


@pytest.mark.parametrize("shape", [(1, 1), (2, 1), (1, 300), (33, 7), (6, 2049), (5, 9 * 2048 + 1)])
def test_shapes(shape: tuple[int, int], device: Device) -> None:
    check(device, rows("random", *shape, 3), shape[0], 11)


@pytest.mark.parametrize("kind", ["constant", "zero", "tied", "integer"])
def test_every_row_once(kind: str, device: Device) -> None:
    bank = rows(kind, 47, 5, 4)
    chosen = device.greedy_coreset(bank, 47, 0)
    assert sorted(chosen.tolist()) == list(range(47))
    assert torch.equal(chosen[:30], thfr_ext.greedy_coreset(bank, 30))
    if kind in ("constant", "zero"):  # nothing to choose by: the lowest index that is left
        first = int(chosen[0])
        assert chosen[1:].tolist() == [n for n in range(47) if n != first]


@pytest.mark.parametrize("scale", [1e-300, 1e-200, 1e-170, 1e170, 1e200, 1e300])
def test_double_beyond_the_range_of_squares(scale: float, device: Device) -> None:
    bank = rows("random", 60, 11, 4).double()
    expected = thfr_ext.greedy_coreset(bank, 20)
    assert torch.equal(device.greedy_coreset(bank * scale, 20, 0), expected)


@pytest.mark.parametrize("dtype", DTYPES)
def test_threads_do_not_matter(dtype: torch.dtype) -> None:
    bank = rows("tied", 1500, 65, 5).to(dtype)
    before = torch.get_num_threads()
    try:
        results = []
        for threads in (1, 2, 3, 8):
            torch.set_num_threads(threads)
            results.append(thfr_ext.greedy_coreset(bank, 60, 2))
    finally:
        torch.set_num_threads(before)
    assert all(torch.equal(result, results[0]) for result in results)


def test_seed_chooses_the_first_row() -> None:
    bank = rows("random", 1000, 2, 7)
    # splitmix64's published first output for seed 1234567 is 6457827717110365317.
    assert thfr_ext.greedy_coreset(bank, 1, 1234567).tolist() == [6457827717110365317 % 1000]
    assert len({int(thfr_ext.greedy_coreset(bank, 1, seed)) for seed in range(20)}) > 15
    assert 0 <= int(thfr_ext.greedy_coreset(bank, 1, 2**63 - 1)) < 1000


def test_progress_and_interruption(monkeypatch: pytest.MonkeyPatch) -> None:
    bank = rows("random", 300, 8, 8)
    monkeypatch.setattr("thfr_ext.retrieval.cpu._CORESET_CHUNK", 300 * 8 * 10)
    for run in (thfr_ext.greedy_coreset, reference.greedy_coreset):
        calls: list[tuple[int, int]] = []
        chosen = run(bank, 95, 3, progress=lambda *call, calls=calls: calls.append(call))
        assert torch.equal(chosen, thfr_ext.greedy_coreset(bank, 95, 3))
        assert calls[-1] == (95, 95)
        assert [done for done, _ in calls] == sorted({done for done, _ in calls})
        assert len(calls) > 1

    def stop(done: int, size: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        thfr_ext.greedy_coreset(bank, 95, 3, progress=stop)


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_any_small_bank(data: st.DataObject) -> None:
    count, width = data.draw(st.integers(1, 60)), data.draw(st.integers(1, 150))
    kind, dtype = (
        data.draw(st.sampled_from(["random", "tied", "integer", "skewed"])),
        data.draw(st.sampled_from(DTYPES)),
    )
    bank = rows(kind, count, width, data.draw(st.integers(0, 1000)))
    bank = bank.clamp(-60_000, 60_000).to(dtype)
    size, seed = data.draw(st.integers(1, count)), data.draw(st.integers(0, 2**63 - 1))
    got = thfr_ext.greedy_coreset(bank, size, seed).tolist()
    assert got == plain_loop(bank, size, seed)
