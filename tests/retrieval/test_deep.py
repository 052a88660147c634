"""Wide rows and some queries, a way of its own on CPUs: the bits that single queries give."""

from __future__ import annotations

import pytest
import torch

import thfr_ext

WIDTH = 4096 + 260  # ragged in every block


def made(kind: str, dtype: torch.dtype) -> tuple[torch.Tensor, torch.Tensor]:
    rng = torch.Generator().manual_seed(0)
    queries, bank = torch.randn(61, WIDTH, generator=rng), torch.randn(401, WIDTH, generator=rng)
    if kind == "offset":  # so alike that rows are centred
        queries, bank = queries * 1e-3 + 3, bank * 1e-3 + 3
    bank[100] = bank[7]  # equal rows: the lower index wins
    bank[3] = 0
    queries[5] = bank[7]
    if kind == "extreme":
        bank[11] *= 1e18
        queries[2] *= 1e-18
    return queries.to(torch.float64 if dtype == torch.float64 else torch.float32), bank.to(dtype)


@pytest.mark.parametrize("threads", [1, 2, 3])  # several share the depth
@pytest.mark.parametrize(
    ("kind", "dtype"),
    [
        ("plain", torch.float32),
        ("plain", torch.float16),
        ("offset", torch.float32),
        ("offset", torch.bfloat16),
        ("extreme", torch.float32),
        ("plain", torch.float64),
    ],
)
def test_many_queries_give_what_single_ones_give(kind: str, dtype: torch.dtype, threads: int) -> None:
    queries, bank = made(kind, dtype)
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        for metric in ("cosine", "l2", "dot"):
            for k in (1, 5):
                exclude = torch.where(torch.arange(61) % 3 == 0, 7, -1)
                scores, indices = thfr_ext.nearest_templates(queries, bank, k, metric, exclude=exclude)
                for q in (0, 2, 5, 31, 32, 60):
                    one = thfr_ext.nearest_templates(
                        queries[q : q + 1], bank, k, metric, exclude=exclude[q : q + 1]
                    )
                    assert torch.equal(scores[q], one[0][0]), (metric, k, q)
                    assert torch.equal(indices[q], one[1][0]), (metric, k, q)
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("kind", ["plain", "offset"])
def test_rows_that_are_not_finite_are_named(kind: str, threads: int) -> None:
    queries, bank = made(kind, torch.float32)
    bank[390, 4300] = torch.inf
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        with pytest.raises(ValueError, match=r"bank.*390"):
            thfr_ext.nearest_templates(queries, bank)
        queries[60, 4355] = torch.nan
        with pytest.raises(ValueError, match=r"queries.*60"):
            thfr_ext.nearest_templates(queries, bank)
    finally:
        torch.set_num_threads(before)
