"""Fake tensors of a device: every tensor that a CUDA caller makes is on the device of its input.

A torch without CUDA cannot slice fake CUDA tensors; fake tensors of the meta device stand in for them there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from thfr_ext.core import devices
from thfr_ext.metrics import torch_path as metrics
from thfr_ext.retrieval import cuda as retrieval_cuda
from thfr_ext.retrieval import torch_path as retrieval
from thfr_ext.scoring import cuda as scoring_cuda
from thfr_ext.scoring import resample
from thfr_ext.scoring import torch_path as scoring

GPU = torch.device("cuda", 0) if torch.version.cuda else torch.device("meta")


def rand(*shape: int) -> torch.Tensor:
    return torch.empty(shape, device=GPU)


def whole(*shape: int) -> torch.Tensor:
    return torch.empty(shape, dtype=torch.int64, device=GPU)


#: those without a result whose shape depends on values
CALLS: dict[str, Callable[[], Any]] = {
    "cosine_distance": lambda: scoring.cosine_distance(rand(2, 70, 3, 4), rand(2, 70, 3, 4), 1e-8),
    "cosine_distance_backward": lambda: scoring.cosine_distance_backward(
        rand(2, 3, 4), rand(2, 70, 3, 4), rand(2, 70, 3, 4), 1e-8, True, True
    ),
    "anomaly_map": lambda: scoring.anomaly_map(
        [rand(2, 5, 3, 4)], [rand(2, 5, 3, 4)], (9, 8), 1.0, "product", [0.5]
    ),
    "upsample_blur": lambda: scoring.upsample_blur([rand(2, 3, 4)], (9, 8), 1.0, "sum", None),
    "captured search": lambda: retrieval._exhaustive(
        retrieval._Search(rand(4, 9), rand(70, 9), 3, "cosine", whole(4))
    ),
    "filter": lambda: retrieval._by_filter(
        s := retrieval._Search(rand(4, 9), rand(70, 9), 3, "l2", whole(4)), retrieval._Filter.of(s), 16
    ),
    "greedy_coreset": lambda: retrieval.greedy_coreset(rand(30, 4), 5, 0),
    "bins_area": lambda: metrics.bins_area(whole(3, 5), whole(3, 7), 12.0, [0.3]),
}


def tensors(result: Any) -> Iterator[torch.Tensor]:
    if isinstance(result, torch.Tensor):
        yield result
    else:
        for one in result:
            yield from tensors(one)


@pytest.fixture
def no_driver(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resample, "in_thread", lambda make, device: make())
    monkeypatch.setattr(resample, "_kept", {})
    monkeypatch.setattr(torch, "autocast", lambda *given, **options: nullcontext())


@pytest.mark.parametrize("name", CALLS)
def test_torch_path(name: str, no_driver: None) -> None:
    with FakeTensorMode(allow_non_fake_inputs=False):
        results = list(tensors(CALLS[name]()))
    assert results
    assert all(r.device == GPU for r in results)


class Recorder:
    """A native module that launches nothing: it gives numbers where a number is asked for."""

    NUMBERS = ("cuda_bank_strips", "cuda_coreset_blocks", "cuda_sweep_segments")

    def __getattr__(self, name: str) -> Callable[..., Any]:
        return lambda *given: 4 if name in self.NUMBERS else None


NATIVE: dict[str, Callable[[], Any]] = {
    "cosine_distance": lambda: scoring_cuda.cosine_distance(rand(2, 70, 3, 4), rand(2, 70, 3, 4), 1e-8),
    "cosine_distance_backward": lambda: scoring_cuda.cosine_distance_backward(
        rand(2, 3, 4), rand(2, 70, 3, 4), rand(2, 70, 3, 4), 1e-8, True, True
    ),
    "few queries": lambda: retrieval_cuda.nearest_templates(rand(4, 9), rand(70, 9), 3, "l2", whole(4)),
    "many queries": lambda: retrieval_cuda.nearest_templates(rand(40, 9), rand(70, 9), 3, "l2", None),
    "many neighbours": lambda: retrieval_cuda.nearest_templates(rand(4, 9), rand(90, 9), 70, "dot", None),
    "greedy_coreset": lambda: retrieval_cuda.greedy_coreset(rand(30, 4), 5, 0),
}


@pytest.mark.parametrize("name", NATIVE)
def test_native_callers(name: str, no_driver: None, monkeypatch: pytest.MonkeyPatch) -> None:
    @contextmanager
    def here(tensor: torch.Tensor) -> Iterator[int]:
        assert tensor.device == GPU
        yield 0

    def view(tensor: torch.Tensor) -> tuple[Any, ...]:
        """Every tensor that a kernel gets is on the device."""
        assert tensor.device == GPU
        return (0, 0, tuple(tensor.shape), tensor.stride())

    monkeypatch.setattr(devices, "native", Recorder())
    monkeypatch.setattr(devices, "on_device_of", here)
    for module in (scoring_cuda, retrieval_cuda):
        monkeypatch.setattr(module, "view", view)
    monkeypatch.setattr(retrieval_cuda, "_are_operands", lambda rows: False)
    with FakeTensorMode(allow_non_fake_inputs=False):
        results = list(tensors(NATIVE[name]()))
    assert all(r.device == GPU for r in results)


def test_a_missing_device_is_found() -> None:
    with FakeTensorMode(allow_non_fake_inputs=False), pytest.raises(Exception, match="device"):
        rand(3) + torch.empty(3)
