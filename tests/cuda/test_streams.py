"""Streams, graphs, devices: an operator runs where its tensors are and waits for nothing."""

from __future__ import annotations

import pytest
import torch
from support.cuda_cases import SMALL, pair

import thfr_ext

OPERATORS = torch.ops.thfr_ext


@pytest.mark.parametrize("name", SMALL)
def test_other_stream(name: str) -> None:
    """What is still being made on a stream is used on that stream, after it."""
    call = SMALL[name]
    x, y = (t.cuda() for t in pair())
    expected = call(x, y)
    torch.cuda.synchronize()
    stream = torch.cuda.Stream()
    with torch.cuda.stream(stream):
        late = torch.zeros_like(x)
        torch.cuda._sleep(50_000_000)
        late.copy_(x)
        found = call(late, y)
    stream.synchronize()
    assert torch.equal(found, expected)


@pytest.mark.parametrize("name", SMALL)
def test_no_synchronisation(name: str) -> None:
    x, y = (t.cuda() for t in pair())
    SMALL[name](x, y)  # fills caches of matrices
    torch.cuda.set_sync_debug_mode("error")
    try:
        SMALL[name](x, y)
    finally:
        torch.cuda.set_sync_debug_mode("default")


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
@pytest.mark.parametrize("name", SMALL)
def test_graph(name: str, dtype: torch.dtype) -> None:
    call = SMALL[name]
    x, y = (t.cuda() for t in pair(dtype))
    side = torch.cuda.Stream()
    with torch.cuda.stream(side):
        call(x, y)  # fills caches of matrices
    side.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        result = call(x, y)
    for seed in (1, 2):
        a, b = pair(dtype, seed)
        x.copy_(a)
        y.copy_(b)
        graph.replay()
        assert torch.equal(result, call(x, y))


@pytest.mark.parametrize("name", ["distance", "anomaly", "few", "many"])
def test_compile(name: str) -> None:
    x, y = (t.cuda() for t in pair())
    compiled = torch.compile(SMALL[name], fullgraph=True)
    assert torch.allclose(compiled(x, y), SMALL[name](x, y), atol=1e-6)


def test_opcheck() -> None:
    x, y = (t.cuda() for t in pair())
    grad = torch.rand(8, 13, 9, device="cuda")
    a, b = x.clone().requires_grad_(), y.clone().requires_grad_()
    torch.library.opcheck(OPERATORS.cosine_distance.default, (a, b, 1e-8))
    torch.library.opcheck(OPERATORS.cosine_distance_backward.default, (grad, x, y, 1e-8, True, False))
    torch.library.opcheck(OPERATORS.anomaly_map.default, ([x], [y], [20, 30], 1.0, "sum", None))
    keys = x.flatten(1)
    torch.library.opcheck(OPERATORS.nearest_templates.default, (keys, keys, 2, "cosine", None))
    torch.library.opcheck(OPERATORS.greedy_coreset.default, (keys, 3, 0))


def test_deterministic() -> None:
    x, y = (t.cuda() for t in pair())
    for call in SMALL.values():
        first = call(x, y)
        assert all(torch.equal(call(x, y), first) for _ in range(5))


def test_metrics_stay_on_the_device() -> None:
    generator = torch.Generator().manual_seed(0)
    maps, masks = torch.rand(4, 64, 64, generator=generator), torch.zeros(4, 64, 64, dtype=torch.bool)
    masks[:3, 10:20, 10:30] = True
    for exact in (True, False):
        here, there = thfr_ext.metrics.AUPRO(exact=exact), thfr_ext.metrics.AUPRO(exact=exact)
        for i in range(4):
            here.update(maps[i : i + 1], masks[i : i + 1])
            there.update(maps[i : i + 1].cuda(), masks[i : i + 1].cuda())
        assert float(there.compute()) == pytest.approx(float(here.compute()), abs=1e-12 if exact else 1e-4)
