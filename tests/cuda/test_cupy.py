"""CuPy arrays go in and come out on CuPy's own stream, in order."""

from __future__ import annotations

from typing import Any

import pytest
import torch

import thfr_ext


@pytest.fixture
def cupy() -> Any:
    return pytest.importorskip("cupy")


def test_round_trip(cupy: Any) -> None:
    x, y = cupy.random.rand(2, 2, 16, 9, 9, dtype=cupy.float32)
    distance = thfr_ext.cosine_distance(x, y)
    assert isinstance(distance, cupy.ndarray)
    expected = thfr_ext.cosine_distance(torch.from_numpy(x.get()), torch.from_numpy(y.get()))
    assert torch.allclose(torch.from_numpy(distance.get()), expected, atol=1e-5)
    scores, rows = thfr_ext.nearest_templates(x.reshape(2, -1), y.reshape(2, -1))
    assert isinstance(scores, cupy.ndarray)
    assert rows.dtype == cupy.int64


def test_order_on_another_stream(cupy: Any) -> None:
    """Input that CuPy's stream has still to make, and output that it uses at once."""
    sleep = cupy.RawKernel(
        'extern "C" __global__ void wait(long long clocks) {'
        " const long long start = clock64(); while (clock64() - start < clocks) {} }",
        "wait",
    )
    source = cupy.random.rand(2, 2, 16, 9, 9, dtype=cupy.float32)
    expected = thfr_ext.cosine_distance(source[0], source[1]) * 2
    cupy.cuda.Device().synchronize()
    with cupy.cuda.Stream(non_blocking=True) as stream:
        late = cupy.zeros_like(source)
        sleep((1,), (1,), (100_000_000,))
        late[...] = source
        doubled = thfr_ext.cosine_distance(late[0], late[1]) * 2
        stream.synchronize()
    assert cupy.array_equal(doubled, expected)
