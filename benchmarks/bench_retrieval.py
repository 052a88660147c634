"""Retrieval against what PyTorch and faiss offer.

python benchmarks/run.py retrieval, or pytest benchmarks/bench_retrieval.py --benchmark-only
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import harness
import peers
import pytest
import torch
from torch import Tensor
from torch.nn.functional import normalize

import thfr_ext

#: name: queries, bank rows, key width, fp16 bank
SHAPES = {
    "330x350x1792": (330, 350, 1792, False),
    "64x350x65536": (64, 350, 65_536, False),
    "64x350x65536 fp16 bank": (64, 350, 65_536, True),
    "784x16000x1536": (784, 16_000, 1536, False),
    "1x1000000x128": (1, 1_000_000, 128, False),
}
BANK_BEFOREHAND = "bank normalised beforehand, not timed"
COPY_BEFOREHAND = "fp32 copy of the bank made beforehand, not timed: twice its memory"


def matmul_topk(queries: Tensor, bank: Tensor) -> tuple[Tensor, Tensor]:
    return (queries @ bank.float().t()).topk(1)


def normalised_topk(queries: Tensor, bank: Tensor) -> tuple[Tensor, Tensor]:
    return (normalize(queries) @ normalize(bank.float()).t()).topk(1)


def cdist_topk(queries: Tensor, bank: Tensor) -> tuple[Tensor, Tensor]:
    return torch.cdist(queries, bank.float()).topk(1, largest=False)


def torch_peers(metric: str, queries: Tensor, bank: Tensor) -> tuple[harness.Contenders, dict[str, str]]:
    if metric == "l2":
        return {"cdist + topk": partial(cdist_topk, queries, bank)}, {}
    if metric == "dot":
        return {"matmul + topk": partial(matmul_topk, queries, bank)}, {}
    unit, wide = normalize(bank.float()), "matmul + topk, unit bank"
    calls = {
        "normalise + matmul + topk": partial(normalised_topk, queries, bank),
        wide: lambda: (normalize(queries) @ unit.t()).topk(1),
    }
    return calls, {wide: BANK_BEFOREHAND}


def faiss_peer(metric: str, queries: Tensor, bank: Tensor) -> tuple[harness.Contenders, dict[str, str]]:
    faiss = peers.load("faiss")
    if faiss is None or metric == "cosine":
        return {}, {}
    index = (faiss.IndexFlatL2 if metric == "l2" else faiss.IndexFlatIP)(bank.shape[1])
    index.add(bank.float().numpy())
    name, rows = f"faiss {type(index).__name__}", queries.numpy()
    notes = {name: COPY_BEFOREHAND} if bank.dtype == torch.float16 else {}
    return {name: lambda: index.search(rows, 1)}, notes


def make_nearest(shape: str, metric: str) -> harness.Work:
    count, rows, width, half = SHAPES[shape]
    torch.manual_seed(0)
    queries, bank = torch.randn(count, width).relu_(), torch.randn(rows, width).relu_()
    if half:
        bank = bank.half()
    calls: harness.Contenders = {harness.OURS: lambda: thfr_ext.nearest_templates(queries, bank, 1, metric)}
    notes: dict[str, str] = {}
    for make in (torch_peers, faiss_peer):
        found, remarks = make(metric, queries, bank)
        calls |= found
        notes |= remarks

    def differences(results: dict[str, Any]) -> dict[str, float]:
        """Queries whose row differs; ties in fp32 are theirs to break."""
        ours = results[harness.OURS][1]
        return {
            f"{name}, rows that differ": float((torch.as_tensor(theirs[1]) != ours).sum())
            for name, theirs in results.items()
            if name != harness.OURS
        }

    size = queries.numel() * 4 + bank.numel() * bank.element_size()
    return harness.Work(calls, size, 2 * count * rows * width, differences, notes=notes)


def plain_loop(bank: Tensor, size: int) -> Tensor:
    """k-centre greedy as usually written: one pass of PyTorch operators for each chosen row."""
    nearest, newest, chosen = torch.full((len(bank),), float("inf")), 0, [0]
    for _ in range(size - 1):
        nearest = torch.minimum(nearest, (bank - bank[newest]).norm(dim=1))
        newest = int(nearest.argmax())
        chosen.append(newest)
    return torch.tensor(chosen)


def make_coreset(rows: int, width: int, size: int) -> harness.Work:
    torch.manual_seed(0)
    bank = torch.randn(rows, width).relu_()
    calls: dict[str, Callable[[], Any]] = {
        harness.OURS: lambda: thfr_ext.greedy_coreset(bank, size),
        "PyTorch loop": lambda: plain_loop(bank, size),
    }
    return harness.Work(calls, rows * width * 4 * (size - 1))


def cases() -> list[harness.Case]:
    nearest = [
        harness.Case(
            f"nearest_templates {shape} {metric}", partial(make_nearest, shape, metric), (("best", 1 / 1.05),)
        )
        for shape in SHAPES
        for metric in ("dot", "l2", "cosine")
    ]
    coreset = partial(make_coreset, 50_000, 512, 500)
    return [*nearest, harness.Case("greedy_coreset 50000x512 to 500", coreset, (("PyTorch loop", 5),))]


@pytest.mark.parametrize("case", cases(), ids=lambda case: case.name)
def test_retrieval(benchmark: Any, case: harness.Case) -> None:
    harness.bench(benchmark, case)
