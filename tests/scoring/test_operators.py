"""The scoring operators in torch: opcheck, compile, array kinds, refusals, instruction sets."""

from __future__ import annotations

import math
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import thfr_ext
from thfr_ext import reference
from thfr_ext.scoring import ops as scoring_ops

DTYPES = (torch.float32, torch.float64, torch.float16, torch.bfloat16)
OPERATORS = torch.ops.thfr_ext
X = torch.zeros(2, 3, 4, 5)


def pair(
    dtype: torch.dtype = torch.float32, memory_format: torch.memory_format = torch.contiguous_format
) -> list[Tensor]:
    return [torch.randn(2, 6, 5, 4).to(dtype).contiguous(memory_format=memory_format) for _ in range(2)]


@pytest.mark.parametrize("dtype", DTYPES)
def test_opcheck_distance(dtype: torch.dtype) -> None:
    x, y = pair(dtype, torch.channels_last)
    torch.library.opcheck(OPERATORS.cosine_distance.default, (x, y, 1e-8))
    grad = torch.randn_like(thfr_ext.cosine_distance(x, y))
    torch.library.opcheck(OPERATORS.cosine_distance_backward.default, (grad, x, y, 1e-8, True, True))


def test_opcheck_with_gradient() -> None:
    x, y = pair()
    torch.library.opcheck(OPERATORS.cosine_distance.default, (x.requires_grad_(), y, 1e-8))
    torch.library.opcheck(OPERATORS.cosine_distance.default, (x, y.requires_grad_(), 1e-8))
    arguments = (torch.randn(2, 5, 4), x.detach(), y.detach(), 1e-8, False, True)
    torch.library.opcheck(OPERATORS.cosine_distance_backward.default, arguments)


@pytest.mark.parametrize("dtype", DTYPES)
def test_opcheck_map(dtype: torch.dtype) -> None:
    x, y = pair(dtype)
    torch.library.opcheck(OPERATORS.anomaly_map.default, ([x, x], [y, y], [9, 8], 1.0, "sum", None))
    torch.library.opcheck(OPERATORS.anomaly_map.default, ([x], [y], [9, 8], 0.0, "product", [2.0]))


@pytest.mark.parametrize("dynamic", [False, True])
def test_compile(dynamic: bool) -> None:
    def loss(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        with torch.no_grad():
            anomaly, score = thfr_ext.anomaly_map([x, x], [y, y], (2 * x.shape[2], 9), 2.0, weights=[1, 2])
        return (thfr_ext.cosine_distance(x, y) * 2).mean(), anomaly, score

    compiled = torch.compile(loss, fullgraph=True, dynamic=dynamic, backend="aot_eager")
    for height in (5, 7):
        x, y = torch.randn(2, 6, height, 4, requires_grad=True), torch.randn(2, 6, height, 4)
        expected, got = loss(x, y), compiled(x, y)
        assert all(torch.equal(a, b) for a, b in zip(expected, got, strict=True))
        (eager_grad,) = torch.autograd.grad(expected[0], x)
        (compiled_grad,) = torch.autograd.grad(got[0], x)
        assert torch.equal(eager_grad, compiled_grad)


def test_meta_tensors_have_shapes_only() -> None:
    x = torch.empty(2, 6, 5, 4, dtype=torch.float16, device="meta")
    assert thfr_ext.cosine_distance(x, x).shape == (2, 5, 4)
    assert thfr_ext.cosine_distance(x, x).dtype == torch.float32
    anomaly, score = thfr_ext.anomaly_map([x], [x], (7, 9))
    assert (anomaly.shape, score.shape) == ((2, 7, 9), (2,))


def test_numpy_in_numpy_out() -> None:
    x, y = np.random.default_rng(0).standard_normal((2, 2, 6, 5, 4)).astype(np.float32)
    distance = thfr_ext.cosine_distance(x, y[:, ::-1])  # a negative stride, which torch does not have
    assert type(distance) is np.ndarray
    expected = thfr_ext.cosine_distance(torch.from_numpy(x), torch.from_numpy(y).flip(1))
    assert np.array_equal(distance, expected.numpy())
    anomaly, score = thfr_ext.anomaly_map([x], [y], (9, 8))
    assert type(anomaly) is type(score) is np.ndarray
    wide = np.random.default_rng(1).standard_normal((2, 6, 5, 8))[..., ::2]  # strides go through
    assert thfr_ext.cosine_distance(wide, wide).dtype == np.float64


class Exporter:
    """An array of another library: DLPack and nothing else."""

    def __init__(self, tensor: Tensor) -> None:
        self.tensor, self.exports = tensor, 0

    def __dlpack__(self, **options: Any) -> Any:
        self.exports += 1
        return self.tensor.__dlpack__(**options)

    def __dlpack_device__(self) -> Any:
        return self.tensor.__dlpack_device__()

    def __array_namespace__(self) -> Any:
        return Namespace


class Namespace:
    @staticmethod
    def from_dlpack(value: Any) -> Exporter:
        return Exporter(torch.from_dlpack(value))


def test_dlpack_in_the_same_kind_out() -> None:
    x, y = pair()
    first = Exporter(x)
    distance = thfr_ext.cosine_distance(first, Exporter(y))
    assert isinstance(distance, Exporter)
    assert first.exports == 1
    assert torch.equal(distance.tensor, thfr_ext.cosine_distance(x, y))
    anomaly, score = thfr_ext.anomaly_map([first], [Exporter(y)], (9, 8))
    assert isinstance(anomaly, Exporter)
    assert isinstance(score, Exporter)


def test_arrays_come_in_without_a_copy(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []
    run = scoring_ops.cosine_distance
    monkeypatch.setattr(
        scoring_ops,
        "cosine_distance",
        lambda x, y, eps: (seen.extend((x.data_ptr(), y.data_ptr())), run(x, y, eps))[1],
    )
    array, tensor = np.ones((1, 2, 3, 4), np.float32), torch.ones(1, 2, 3, 4)
    thfr_ext.cosine_distance(array, Exporter(tensor))
    assert seen == [array.ctypes.data, tensor.data_ptr()]


@pytest.mark.parametrize(
    ("change", "error", "begins"),
    [
        ({"features": X[0]}, ValueError, "features: expected shape [B,C,H,W], got [3, 4, 5]"),
        (
            {"features": X.long()},
            TypeError,
            "features: expected float32, float64, float16 or bfloat16, got [2, 3, 4, 5] int64",
        ),
        ({"restored": X[:, :2]}, ValueError, "restored: expected shape and device of features"),
        ({"restored": X.double()}, TypeError, "restored: expected dtype of features"),
        ({"restored": X.to("meta")}, ValueError, "restored: expected shape and device of features"),
        ({"restored": None}, TypeError, "restored: expected a torch tensor"),
        ({"eps": -1.0}, ValueError, "eps: expected a finite number of at least 0, got -1.0"),
        ({"eps": math.nan}, ValueError, "eps: expected a finite number of at least 0, got nan"),
        ({"eps": "small"}, TypeError, "eps: expected a number, got 'small'"),
    ],
)
def test_refusals(change: dict[str, Any], error: type[Exception], begins: str) -> None:
    with pytest.raises(error) as caught:
        thfr_ext.cosine_distance(**{"features": X, "restored": X, **change})
    assert str(caught.value).startswith(f"cosine_distance: {begins}")


def test_operators_refuse_too() -> None:
    with pytest.raises(ValueError, match=r"^cosine_distance: restored: expected shape"):
        OPERATORS.cosine_distance(X, X[:1], 1e-8)
    with pytest.raises(ValueError, match=r"^cosine_distance_backward: grad_distance: expected \[2, 4, 5\]"):
        OPERATORS.cosine_distance_backward(torch.zeros(2, 5, 4), X, X, 1e-8, True, True)
    with pytest.raises(ValueError, match=r"^anomaly_map: size: expected"):
        OPERATORS.anomaly_map([X], [X], [0, 3], 1.0, "sum", None)


def test_cuda_runs_the_twins() -> None:
    """The functions registered for CUDA, on CPU tensors: equal to the kernels."""
    x, y = pair()
    grad = torch.randn(2, 5, 4)
    assert torch.allclose(reference.cosine_distance(x, y, 1e-8), thfr_ext.cosine_distance(x, y), atol=1e-6)
    twin = reference.cosine_distance_backward(grad, x, y, 1e-8, True, True)
    for a, b in zip(twin, OPERATORS.cosine_distance_backward(grad, x, y, 1e-8, True, True), strict=True):
        assert torch.allclose(a, b, atol=1e-6)
    twin = reference.anomaly_map([x], [y], [9, 8], 1.0, "sum", None)
    assert torch.allclose(twin[0], thfr_ext.anomaly_map([x], [y], (9, 8), 1.0)[0], atol=1e-6)
    backend = thfr_ext.build_info()["backend"]
    assert all(
        backend[name]["cpu"] == "native"
        for name in ("cosine_distance", "cosine_distance_backward", "anomaly_map")
    )


PROGRAM = """
import sys, torch, thfr_ext
assert thfr_ext.build_info()["simd"] == sys.argv[1]
torch.set_num_threads(1)
torch.manual_seed(0)
results = []
for dtype in (torch.float32, torch.float64, torch.float16, torch.bfloat16):
    for layout in (torch.contiguous_format, torch.channels_last):
        x, y = (torch.randn(2, 75, 9, 21).to(dtype).contiguous(memory_format=layout) for _ in range(2))
        x[:, :, 3] *= 1e-30 if dtype != torch.float16 else 1e-3
        distance = thfr_ext.cosine_distance(x, y, eps=1e-40)
        grad = torch.ones_like(distance)
        backward = torch.ops.thfr_ext.cosine_distance_backward(grad, x, y, 1e-40, True, True)
        results += [distance, *backward]
        results += thfr_ext.anomaly_map([x], [y], (41, 37), combine="product", weights=[1.5])
torch.save(results, sys.argv[2])
"""


def _run(level: str, out: Path) -> list[Tensor]:
    environment = {**os.environ, "THFR_SIMD": level, "PYTHONPATH": os.pathsep.join(sys.path)}
    subprocess.run([sys.executable, "-c", PROGRAM, level, str(out)], check=True, env=environment)
    loaded: list[Tensor] = torch.load(out, weights_only=True)
    return loaded


def test_instruction_sets_agree(tmp_path: Path) -> None:
    built = thfr_ext.build_info()["simd_built"]
    usable = built[: built.index(thfr_ext.build_info()["simd"]) + 1] if "THFR_SIMD" not in os.environ else []
    if len(usable) < 2:
        pytest.skip("one instruction set only")
    results = {level: _run(level, tmp_path / level) for level in usable}
    for level in usable[1:]:
        for got, expected in zip(results[level], results[usable[0]], strict=True):
            allowed = 4 * torch.finfo(got.dtype).eps * max(1.0, float(expected.abs().max()))
            assert (got.double() - expected.double()).abs().max() <= allowed


def test_twin_gradient_is_the_derivative_of_the_twin() -> None:
    x, y = (t.requires_grad_() for t in pair(torch.float64))
    grad = torch.randn(2, 5, 4, dtype=torch.float64)
    expected = torch.autograd.grad(reference.cosine_distance(x, y), (x, y), grad)
    got = reference.cosine_distance_backward(grad, x.detach(), y.detach(), 1e-8, True, True)
    for a, b in zip(got, expected, strict=True):
        assert torch.allclose(a, b, atol=1e-12)
