"""The operators on the GPU beside the CPU's: random small arguments, and the sizes they are made for."""

from __future__ import annotations

import pytest
import torch
from support.cuda_cases import WIDE_RESNET50, levels
from support.fuzz_agree import compare, same, same_neighbours
from support.fuzz_driver import OPERATORS, REGISTERED
from support.retrieval_oracle import rows as hard_rows

import thfr_ext

DTYPES = (torch.float32, torch.float64, torch.float16, torch.bfloat16)
LAYOUTS = (torch.contiguous_format, torch.channels_last)


@pytest.mark.parametrize("name", REGISTERED)
def test_operators(name: str) -> None:
    compare(name, getattr(OPERATORS, name), lambda tensor: tensor.cuda(), cases=100)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_anomaly_map(dtype: torch.dtype, layout: torch.memory_format) -> None:
    x, y = (levels(3, dtype, WIDE_RESNET50, seed) for seed in (0, 1))
    expected = thfr_ext.anomaly_map(x, y, (256, 256))
    x, y = ([t.cuda().to(memory_format=layout) for t in side] for side in (x, y))
    found = thfr_ext.anomaly_map(x, y, (256, 256))
    assert all(same(a, b, 2e-5) for a, b in zip(expected, found, strict=True))


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_gradients(dtype: torch.dtype, layout: torch.memory_format) -> None:
    for shape in WIDE_RESNET50:
        sides = [levels(2, dtype, (shape,), seed)[0] for seed in (0, 1)]
        results = []
        for device in ("cpu", "cuda"):
            x, y = (t.to(device).to(memory_format=layout).requires_grad_() for t in sides)
            thfr_ext.cosine_distance(x, y).square().sum().backward()
            results.append((x.grad, y.grad))
        for a, b in zip(*results, strict=True):
            assert a is not None
            assert b is not None
            scale = a.abs().max().item()
            limit = {torch.float64: 1e-11, torch.float32: 2e-5}.get(dtype, 1e-2)
            assert (a - b.cpu()).abs().max().item() <= limit * scale


SIZES = [(330, 350, 1792), (64, 350, 65536), (784, 4000, 1536), (1, 100_000, 128), (9, 777, 101)]


PAIRS = [*((t, t) for t in DTYPES), (torch.float32, torch.float16), (torch.float32, torch.bfloat16)]


@pytest.mark.parametrize("metric", ["cosine", "l2", "dot"])
@pytest.mark.parametrize("pair", PAIRS)
@pytest.mark.parametrize("size", SIZES)
def test_nearest_templates(
    size: tuple[int, int, int], pair: tuple[torch.dtype, torch.dtype], metric: str
) -> None:
    count, rows, width = size
    generator = torch.Generator().manual_seed(0)
    bank = torch.randn(rows, width, generator=generator).to(pair[1])
    queries = torch.randn(count, width, generator=generator).to(pair[0])
    own = torch.arange(count) % rows
    for k in (1, 9, 100):
        expected = thfr_ext.nearest_templates(queries, bank, k, metric, own)
        found = thfr_ext.nearest_templates(queries.cuda(), bank.cuda(), k, metric, own.cuda())
        assert same_neighbours(expected, found)


@pytest.mark.parametrize("kind", ["near", "constant", "offset", "huge", "tiny"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_hard_rows(kind: str, dtype: torch.dtype) -> None:
    """Rows between which no product in half precision tells."""
    queries = hard_rows(kind, 100, 200, 1).to(dtype)
    bank = hard_rows(kind, 3000, 200, 2, base=queries.float()).to(dtype)
    for metric in ("cosine", "l2", "dot"):
        expected = thfr_ext.nearest_templates(queries, bank, 5, metric)
        found = thfr_ext.nearest_templates(queries.cuda(), bank.cuda(), 5, metric)
        assert all(torch.equal(a, b.cpu()) for a, b in zip(expected, found, strict=True))


@pytest.mark.parametrize("allow_tf32", [False, True])
def test_product_settings_do_not_matter(allow_tf32: bool) -> None:
    queries, bank = (torch.randn(n, 300, generator=torch.Generator().manual_seed(n)) for n in (90, 4000))
    expected = thfr_ext.nearest_templates(queries, bank, 3)
    before = torch.backends.cuda.matmul.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = allow_tf32
    try:
        with torch.autocast("cuda", dtype=torch.bfloat16):
            found = thfr_ext.nearest_templates(queries.cuda(), bank.cuda(), 3)
    finally:
        torch.backends.cuda.matmul.allow_tf32 = before
    assert same_neighbours(expected, found)


def test_products_are_never_in_memory() -> None:
    queries, bank = (torch.randn(n, 32, device="cuda").half() for n in (2000, 200_000))
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    thfr_ext.nearest_templates(queries, bank, 3, "l2")
    assert torch.cuda.max_memory_allocated() - before < 2 * len(queries) * len(bank) // 10


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_greedy_coreset(dtype: torch.dtype) -> None:
    bank = torch.randn(5000, 128, generator=torch.Generator().manual_seed(0)).to(dtype)
    expected = thfr_ext.greedy_coreset(bank, 50, seed=3)
    assert torch.equal(thfr_ext.greedy_coreset(bank.cuda(), 50, seed=3).cpu(), expected)
    seen: list[tuple[int, int]] = []
    chosen = thfr_ext.greedy_coreset(bank.cuda(), 50, seed=3, progress=lambda *now: seen.append(now))
    assert torch.equal(chosen.cpu(), expected)
    assert seen[-1] == (50, 50)
