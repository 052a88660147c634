"""The retrieval operators' PyTorch path, on CPU tensors, against the definition in extended precision."""

from __future__ import annotations

import pytest
import torch
from support.retrieval_oracle import KINDS, METRICS, check, rows

import thfr_ext
from thfr_ext.retrieval import torch_path

DTYPES = (torch.float32, torch.float64, torch.float16, torch.bfloat16)
search = torch_path.nearest_templates


@pytest.fixture(params=["filter", "small blocks", "captured"])
def path(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    if request.param == "small blocks":
        monkeypatch.setattr(torch_path, "BLOCK_BYTES", 20_000)
        monkeypatch.setattr(torch_path, "MOST_QUERIES", 7)
        monkeypatch.setattr(torch_path, "SPARE", (4, 16))
    if request.param == "captured":
        monkeypatch.setattr(torch_path, "capturing", lambda device: True)
    return str(request.param)


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("kind", KINDS)
def test_against_definition(metric: str, kind: str, path: str) -> None:
    x = rows(kind, 23, 67, 1)
    y = rows(kind, 331, 67, 2, base=x)
    for k in (1, 5, 331):
        check(x, y, k, metric, search(x, y, k, metric, None))


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_dtypes(metric: str, dtype: torch.dtype, path: str) -> None:
    for kind in ("random", "tied", "offset", "some zero"):
        x, y = rows(kind, 19, 70, 3).to(dtype), rows(kind, 130, 70, 4).to(dtype)
        for k in (1, 130):
            check(x, y, k, metric, search(x, y, k, metric, None))
        if dtype in (torch.float16, torch.bfloat16):
            check(x.float(), y, 7, metric, search(x.float(), y, 7, metric, None))


@pytest.mark.parametrize("metric", METRICS)
def test_exclude(metric: str, path: str) -> None:
    x = rows("tied", 40, 30, 5)
    own = torch.arange(40)
    own[::3] = -1
    for k in (1, 6, 39):
        check(x, x, k, metric, search(x, x, k, metric, own), own)


@pytest.mark.parametrize("scale", [1e-300, 1e-170, 1e170, 1e300])
@pytest.mark.parametrize("metric", ["cosine", "l2"])
def test_double_beyond_the_range_of_squares(scale: float, metric: str, path: str) -> None:
    x, y = (rows("random", n, 20, n).double() for n in (9, 50))
    expected, order = search(x, y, 5, metric, None)
    got, indices = search(x * scale, y * scale, 5, metric, None)
    assert torch.equal(indices, order)
    torch.testing.assert_close(got / (scale if metric == "l2" else 1), expected, rtol=1e-13, atol=0)


@pytest.mark.parametrize("scale", [1e-43, 1e-38, 1e-20, 1e20, 1e37])
@pytest.mark.parametrize("metric", METRICS)
def test_single_magnitudes(scale: float, metric: str, path: str) -> None:
    x, y = rows("random", 9, 20, 1) * scale, rows("random", 80, 20, 2) * scale
    check(x, y, 5, metric, search(x, y, 5, metric, None))


@pytest.mark.parametrize("precision", ["high", "medium"])
def test_reduced_precision_only_widens_the_bound(precision: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A product as TF32 or bfloat16 gives it: more rows are scored, the result stays."""
    bits = {"high": 13, "medium": 16}[precision]
    product = torch.bmm

    def cut(t: torch.Tensor) -> torch.Tensor:
        return (t.contiguous().view(torch.int32) >> bits << bits).view(torch.float32)

    monkeypatch.setattr(torch, "bmm", lambda x, y: product(cut(x), cut(y)))
    monkeypatch.setattr(torch_path, "_is_full_precision", lambda: False)
    x, y = rows("random", 30, 600, 1), rows("random", 500, 600, 2)
    for metric in METRICS:
        check(x, y, 3, metric, search(x, y, 3, metric, None))


def test_a_bound_that_is_too_narrow_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """The proof is what makes results right: without it, bfloat16's product loses rows."""
    product = torch.bmm
    monkeypatch.setattr(torch, "bmm", lambda x, y: product(x.bfloat16(), y.bfloat16()).float())
    monkeypatch.setattr(torch_path, "_slack", lambda columns: 0.0)
    monkeypatch.setattr(torch_path, "SPARE", (0, 0))
    x, y = rows("random", 60, 600, 1), rows("random", 2000, 600, 2)
    with pytest.raises(AssertionError):
        check(x, y, 3, "cosine", search(x, y, 3, "cosine", None))


def test_few_rows_are_scored_exactly(monkeypatch: pytest.MonkeyPatch) -> None:
    scored: list[int] = []
    exact = torch_path._exact

    def count(search: torch_path.Search, rows: torch.Tensor) -> torch.Tensor:
        scored.append(rows.numel())
        return exact(search, rows)

    monkeypatch.setattr(torch_path, "_exact", count)
    monkeypatch.setattr(torch_path, "_all_pairs", None)  # never called
    x, y = rows("random", 200, 256, 1), rows("random", 5000, 256, 2)
    for metric in METRICS:
        search(x, y, 3, metric, None)
    assert sum(scored) <= 3 * 200 * 30


def test_not_finite(path: str) -> None:
    x, y = rows("random", 5, 8, 1), rows("random", 60, 8, 2)
    x[1, 3], x[2, 0] = torch.nan, torch.inf
    scores, indices = search(x, y, 2, "cosine", None)
    assert scores[1:3].isnan().all()
    assert (indices[1:3] == -1).all()
    check(x[[0, 3, 4]], y, 2, "cosine", (scores[[0, 3, 4]], indices[[0, 3, 4]]))
    y[7, 7] = -torch.inf
    scores, indices = search(x, y, 2, "cosine", None)
    assert scores.isnan().all()
    assert (indices == -1).all()


def test_exclude_that_fits_no_row_or_leaves_too_few(path: str) -> None:
    x, y = rows("random", 4, 8, 1), rows("random", 30, 8, 2)
    scores, indices = search(x, y, 30, "l2", torch.tensor([-1, 3, 30, -2]))
    assert not scores[0].isnan().any()
    assert scores[1].isnan().tolist() == [False] * 29 + [True]
    assert indices[1, -1] == -1
    assert 3 not in indices[1]
    assert scores[2:].isnan().all()
    assert (indices[2:] == -1).all()


def test_no_queries() -> None:
    scores, indices = search(torch.empty(0, 4), torch.rand(3, 4), 2, "dot", None)
    assert scores.shape == indices.shape == (0, 2)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("kind", ["random", "tied", "offset"])
def test_coreset(kind: str, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch_path, "BLOCK_BYTES", 9000)
    bank = rows(kind, 90, 33, 4).to(dtype)
    steps: list[int] = []
    found = torch_path.greedy_coreset(bank, 70, 3, lambda done, size: steps.append(done))
    assert torch.equal(found, thfr_ext.greedy_coreset(bank, 70, 3))
    assert steps == [64, 70]


def test_coreset_not_finite() -> None:
    bank = torch.rand(20, 3)
    bank[4, 1] = torch.nan
    assert torch_path.greedy_coreset(bank, 5, 0).tolist() == [-1] * 5
