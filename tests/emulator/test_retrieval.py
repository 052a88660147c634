"""The kernels of nearest_templates: which way a search goes, NaN, launches. Values: tests/retrieval."""

from __future__ import annotations

from types import ModuleType

import pytest
import torch
from support.retrieval_cases import (
    METRICS,
    PAIRS,
    PATHS,
    WAITING,
    Watch,
    rows,
    search,
    take,
)
from torch import Tensor

from thfr_ext.retrieval import cuda as retrieval_cuda


@pytest.fixture
def order() -> int:
    """One random order of blocks and threads; test_operators.py has the others."""
    return 1


@pytest.fixture(params=PATHS)
def path(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    take(request.param, monkeypatch)
    return str(request.param)


@pytest.mark.parametrize("width", [2048, 2049, 9 * 2048 + 3])
def test_rows_of_several_segments(
    width: int, path: str, monkeypatch: pytest.MonkeyPatch, device: ModuleType
) -> None:
    monkeypatch.setattr(retrieval_cuda, "PACKED_BYTES", 2**30)
    for dtype in (torch.float32, torch.float16):
        x, y = rows("positive", 2, width, 9).to(dtype), rows("positive", 5, width, 10).to(dtype)
        search(x, y, 2, "cosine")
        search(x, y, 5, "l2")


def test_more_than_a_list_holds(device: ModuleType) -> None:
    x, y = rows("tied", 3, 10, 13), rows("tied", 90, 10, 14)
    for k, metric in ((65, "cosine"), (90, "l2"), (90, "dot")):
        search(x, y, k, metric)


@pytest.mark.parametrize("pair", PAIRS)
def test_every_path_gives_the_same_bits(
    pair: tuple[torch.dtype, torch.dtype], device: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    for width, metric in ((67, "cosine"), (67, "l2"), (2600, "dot")):
        x, y = rows("near", 2, width, 18).to(pair[0]), rows("near", 7, width, 18).to(pair[1])
        results = []
        for path in PATHS:
            take(path, monkeypatch)
            results.append(retrieval_cuda.nearest_templates(x, y, 7, metric, None))
        assert all(torch.equal(a, b) for other in results for a, b in zip(results[0], other, strict=True))


def test_what_has_no_result_is_nan(path: str, device: ModuleType) -> None:
    x, y = rows("random", 5, 9, 23), rows("random", 66, 9, 24)
    expected = retrieval_cuda.nearest_templates(x, y, 3, "l2", None)

    def nothing(result: tuple[Tensor, Tensor]) -> Tensor:
        scores, indices = result
        assert torch.equal(scores.isnan(), indices == -1)
        return indices == -1

    for value, metric in zip((torch.nan, torch.inf, -torch.inf), METRICS, strict=True):
        wrong, wrong_row = x.clone(), y.clone()
        wrong[2, 4] = wrong_row[65, 8] = value
        assert nothing(retrieval_cuda.nearest_templates(wrong, y, 3, metric, None))[2].all()
        assert nothing(retrieval_cuda.nearest_templates(x, wrong_row, 3, metric, None)).all()
    found = retrieval_cuda.nearest_templates(wrong, y, 3, "l2", None)
    others = [0, 1, 3, 4]
    assert all(torch.equal(a[others], b[others]) for a, b in zip(found, expected, strict=True))
    exclude = torch.tensor([-1, 66, -2, 2**62, 65])
    found = retrieval_cuda.nearest_templates(x, y, 3, "l2", exclude)
    assert nothing(found).all(1).tolist() == [False, True, True, True, False]
    assert torch.equal(found[1][0], expected[1][0])
    found = retrieval_cuda.nearest_templates(x, y[:3], 3, "l2", torch.tensor([-1, 0, -1, 2, -1]))
    assert nothing(found).tolist() == [[False, False, bad] for bad in (False, True, False, True, False)]


def test_no_query_is_no_launch(device: ModuleType) -> None:
    retrieval_cuda.nearest_templates(torch.empty(0, 3), torch.ones(4, 3), 2, "l2", None)
    assert device.statistics() == (0, 0)


def test_queries_in_several_blocks(device: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    for path in PATHS:
        take(path, monkeypatch)
        search(rows("random", 9, 5, 25), rows("random", 66, 5, 26), 2, "cosine", torch.arange(9) - 1)


def test_paths_are_taken(device: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    """Told apart by their launches."""

    def launches(count: int, k: int) -> int:
        device.statistics()
        search(rows("random", count, 8, 27), rows("random", 70, 8, 28), k, "cosine")
        return int(device.statistics()[0])

    few, listed = retrieval_cuda.FEW_QUERIES, retrieval_cuda.MOST_LISTED
    # queries, products, selection, merge; queries, two packings, selection, results; queries, costs, results
    assert (launches(few, listed), launches(few + 1, listed), launches(few, listed + 1)) == (4, 5, 3)
    monkeypatch.setattr(retrieval_cuda, "PRODUCT_BYTES", 1)  # 64 rows at a time
    assert launches(few + 1, 1) == 7


def test_nothing_waits_and_nothing_is_large(path: str, device: ModuleType) -> None:
    count, bank = 12, 700
    x, y = rows("random", count, 4, 29), rows("random", bank, 4, 30)
    own = torch.arange(count)
    with Watch() as watch:
        retrieval_cuda.nearest_templates(x, y, 2, "cosine", own)
    assert watch.names
    assert not [name for name in watch.names if any(word in name for word in WAITING)]
    assert watch.elements < count * bank // 2


@pytest.mark.parametrize("pair", PAIRS)
def test_narrow_rows_share_a_warp(pair: tuple[torch.dtype, torch.dtype], device: ModuleType) -> None:
    """Up to 16 loads of 16 bytes: even and odd lanes have rows of their own, with the other kernels' bits."""
    most = 16 * 16 // pair[1].itemsize
    for width, metric in ((most - 1, "cosine"), (most, "l2"), (most + 1, "dot")):
        for count, bank in ((1, 70), (5, 37)):
            x, y = rows("tied", count, width, 31).to(pair[0]), rows("tied", bank, width, 32).to(pair[1])
            found, _ = search(x, y, 3, metric)
            pairs, _ = retrieval_cuda.nearest_templates(x, torch.cat([y, y]), 70, metric, None)
            assert torch.equal(pairs[:, :6:2], found)
