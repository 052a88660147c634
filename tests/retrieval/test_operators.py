"""Registration: fakes, torch.compile, opcheck, array kinds, backends."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import thfr_ext

DTYPES = (torch.float32, torch.float64, torch.float16, torch.bfloat16)
NEAREST = torch.ops.thfr_ext.nearest_templates.default
CORESET = torch.ops.thfr_ext.greedy_coreset.default


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("metric", ["cosine", "l2", "dot"])
def test_opcheck_nearest(dtype: torch.dtype, metric: str) -> None:
    queries, bank = torch.randn(5, 7).to(dtype), torch.randn(9, 7).to(dtype)
    torch.library.opcheck(NEAREST, (queries, bank, 3, metric, None))
    torch.library.opcheck(NEAREST, (queries, bank, 3, metric, torch.tensor([-1, 2, 0, 8, 1])))


@pytest.mark.parametrize("dtype", DTYPES)
def test_opcheck_coreset(dtype: torch.dtype) -> None:
    torch.library.opcheck(CORESET, (torch.randn(9, 7).to(dtype), 4, 1))


@pytest.mark.parametrize("dynamic", [False, True])
def test_compile(dynamic: bool) -> None:
    def search(queries: torch.Tensor, bank: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        scores, indices = thfr_ext.nearest_templates(queries, bank, k=2, metric="l2")
        return scores * 2, indices, thfr_ext.greedy_coreset(bank, 3)

    compiled = torch.compile(search, fullgraph=True, dynamic=dynamic, backend="aot_eager")
    for q, n in ((5, 9), (6, 11)):
        queries, bank = torch.randn(q, 4), torch.randn(n, 4)
        for got, expected in zip(compiled(queries, bank), search(queries, bank), strict=True):
            assert torch.equal(got, expected)


def test_numpy_in_numpy_out() -> None:
    queries, bank = np.random.default_rng(0).standard_normal((2, 20, 6)).astype(np.float32)
    scores, indices = thfr_ext.nearest_templates(queries, bank[::-1], k=4, exclude=np.arange(20))
    assert type(scores) is np.ndarray
    assert scores.dtype == np.float32
    assert indices.dtype == np.int64
    flipped = torch.from_numpy(bank[::-1].copy())
    expected, _ = thfr_ext.nearest_templates(torch.from_numpy(queries), flipped, 4, exclude=torch.arange(20))
    assert np.array_equal(scores, expected.numpy())
    assert type(thfr_ext.greedy_coreset(bank, 3)) is np.ndarray


def test_no_gradient() -> None:
    queries = torch.randn(3, 4, requires_grad=True)
    scores, _ = thfr_ext.nearest_templates(queries, torch.randn(5, 4))
    assert not scores.requires_grad


def test_backends() -> None:
    backends = thfr_ext.build_info()["backend"]
    assert backends["nearest_templates"]["cpu"] == backends["greedy_coreset"]["cpu"] == "native"
