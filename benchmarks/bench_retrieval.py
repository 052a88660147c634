"""Retrieval against what PyTorch offers: ``pytest benchmarks/bench_retrieval.py --benchmark-only``.

``extra_info`` of each case holds what to hold against the machine's bandwidth and its matmul.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from pytest_benchmark.fixture import BenchmarkFixture
from torch import Tensor

import thfr_ext

# queries, bank rows, key width, k
CASES = {
    "templates": (330, 350, 1792, 1),
    "wide keys": (64, 350, 65_536, 1),
    "patches": (784, 16_000, 1536, 1),
    "one query": (1, 250_000, 128, 1),
    "all rows": (32, 2_000, 256, 2_000),
}


def matmul_topk(queries: Tensor, bank: Tensor, k: int) -> tuple[Tensor, Tensor]:
    unit = torch.nn.functional.normalize
    return (unit(queries) @ unit(bank).t()).topk(k)


def cdist_topk(queries: Tensor, bank: Tensor, k: int) -> tuple[Tensor, Tensor]:
    return torch.cdist(queries, bank).topk(k, largest=False)


METHODS: dict[str, Callable[[Tensor, Tensor, int], tuple[Tensor, Tensor]]] = {
    "cosine thfr_ext": lambda queries, bank, k: thfr_ext.nearest_templates(queries, bank, k),
    "cosine matmul + topk": matmul_topk,
    "l2 thfr_ext": lambda queries, bank, k: thfr_ext.nearest_templates(queries, bank, k, "l2"),
    "l2 cdist + topk": cdist_topk,
}


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("case", CASES)
def test_nearest(benchmark: BenchmarkFixture, case: str, method: str) -> None:
    count, rows, width, k = CASES[case]
    torch.manual_seed(0)
    queries, bank = torch.randn(count, width).relu_(), torch.randn(rows, width).relu_()
    benchmark.group = f"nearest_templates {case}: {count} x {rows} x {width}, k = {k}"
    benchmark.pedantic(METHODS[method], (queries, bank, k), rounds=5, warmup_rounds=1)
    seconds = benchmark.stats.stats.min
    benchmark.extra_info |= {
        "threads": torch.get_num_threads(),
        "bank GB/s": rows * width * 4 / seconds * 1e-9,
        "GFLOP/s": 2 * count * rows * width / seconds * 1e-9,
    }


def plain_loop(bank: Tensor, size: int) -> Tensor:
    nearest, newest, chosen = torch.full((len(bank),), float("inf")), 0, [0]
    for _ in range(size - 1):
        nearest = torch.minimum(nearest, (bank - bank[newest]).norm(dim=1))
        newest = int(nearest.argmax())
        chosen.append(newest)
    return torch.tensor(chosen)


@pytest.mark.parametrize("method", ["thfr_ext", "loop"])
@pytest.mark.parametrize(("rows", "width", "size"), [(16_000, 512, 40), (350, 65_536, 20)])
def test_coreset(benchmark: BenchmarkFixture, rows: int, width: int, size: int, method: str) -> None:
    torch.manual_seed(0)
    bank = torch.randn(rows, width).relu_()
    benchmark.group = f"greedy_coreset {size} of {rows} x {width}"
    benchmark.pedantic(
        thfr_ext.greedy_coreset if method == "thfr_ext" else plain_loop, (bank, size), rounds=3
    )
    benchmark.extra_info["bank GB/s"] = rows * width * 4 * (size - 1) / benchmark.stats.stats.min * 1e-9
