"""Products of few queries: within what they may be wrong by, for rows that lanes, warps and blocks share."""

from __future__ import annotations

from types import ModuleType

import pytest
import torch
from support.retrieval_cases import search
from support.sweep_kernels import ONE_ORDER, rand
from torch import Tensor

from thfr_ext.core.tensors import NO_TENSOR, view
from thfr_ext.retrieval.checks import METRICS

HALF = 16 * 16  # bytes of a row that half a warp loads at once
SHARED = 4096  # elements of a row, beyond which a block shares it


def multiply(device: ModuleType, queries: Tensor, bank: Tensor, first: int) -> tuple[Tensor, Tensor, bool]:
    """Products [Q,B] with bank rows from ``first`` on, their norms [B], and whether one is not finite."""
    count, rows = len(queries), len(bank) - first
    metadata, bad = torch.empty(count, 2, dtype=torch.float64), torch.zeros(1, dtype=torch.int64)
    device.cuda_describe_queries(view(queries), view(metadata), 0)
    given = view(queries), view(metadata), view(bank), METRICS["dot"], NO_TENSOR, view(bad)
    products = torch.empty(1, count, rows)
    gains, bank_gains = (torch.empty(n, dtype=torch.int64) for n in (count, rows))
    device.cuda_multiply_rows(given, first, view(products), view(gains), view(bank_gains), 0)
    return products[0], bank_gains.view(torch.float32)[::2], bool(bad)


@ONE_ORDER
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16], ids=str)
def test_products_are_within_the_slack(dtype: torch.dtype, device: ModuleType) -> None:
    most = HALF // dtype.itemsize
    for width in (1, most, most + 1, SHARED, SHARED + 1, 3 * SHARED + 5):
        for count, rows, first in ((1, 5, 0), (5, 19, 2)):
            queries, bank = rand(count, width).float(), (rand(rows, width, seed=1) + 1e-3).to(dtype)
            found, norms, bad = multiply(device, queries, bank, first)
            x, y = queries.double(), bank[first:].double()
            slack, square_slack = device.cuda_multiply_slack(view(bank))
            bound = slack * x.norm(dim=1)[:, None] * y.norm(dim=1)
            assert ((found - x @ y.mT).abs() <= bound).all()
            assert ((norms.double() ** 2 / y.square().sum(1) - 1).abs() <= square_slack).all()
            assert slack < 2**-11
            assert not bad


@ONE_ORDER
@pytest.mark.parametrize("width", [8, 200, SHARED + 8])
def test_rows_that_are_not_finite(width: int, device: ModuleType) -> None:
    """Only those that were asked for; squares beyond fp32 are none."""
    queries, bank = rand(2, width).float(), rand(37, width, seed=1).float()
    bank[5] *= 1e30
    assert not multiply(device, queries, bank, 0)[2]
    for row in (3, 36):
        for value in (torch.nan, torch.inf):
            wrong = bank.clone()
            wrong[row, width - 1] = value
            assert multiply(device, queries, wrong, 0)[2]
            assert multiply(device, queries, wrong, 4)[2] == (row == 36)


@ONE_ORDER
def test_wide_rows(device: ModuleType) -> None:
    """Near ties, which products in fp32 cannot tell apart."""
    base = rand(1, SHARED + 40, seed=2).float()
    bank = base + 1e-7 * rand(23, SHARED + 40, seed=3).float()
    for metric in METRICS:
        search(base.repeat(5, 1), bank, 4, metric)
