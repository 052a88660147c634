"""Fake tensors of a device: every tensor that a CUDA caller makes is on the device of its input.

Some torches cannot slice fake CUDA tensors where there is no driver (2.6, and all without CUDA); fake tensors
of the meta device stand in for them there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

from thfr_ext.core import devices, registration
from thfr_ext.retrieval import cuda as retrieval_cuda
from thfr_ext.retrieval import torch_path as retrieval
from thfr_ext.scoring import blur, resample
from thfr_ext.scoring import cuda as scoring_cuda
from thfr_ext.sweep import cuda as sweep_cuda
from thfr_ext.sweep import labels as sweep_labels


def _fakes_cuda() -> bool:
    try:
        with FakeTensorMode():
            torch.empty(3, device="cuda:0")[1:].add_(1)
    except (RuntimeError, AssertionError):
        return False
    return True


GPU = torch.device("cuda", 0) if torch.version.cuda and _fakes_cuda() else torch.device("meta")
FOUND = 5  # what a fake tensor cannot say: pixels that are marked, distinct values, ...


def rand(*shape: int) -> torch.Tensor:
    return torch.empty(shape, device=GPU)


def whole(*shape: int) -> torch.Tensor:
    return torch.empty(shape, dtype=torch.int64, device=GPU)


def marks(*shape: int) -> torch.Tensor:
    return torch.empty(shape, dtype=torch.bool, device=GPU)


def images() -> list[torch.Tensor]:
    return [rand(6, 7), rand(6, 7)]


def masks(*planes: int) -> list[torch.Tensor]:
    return [marks(*planes, 6, 7), marks(*planes, 6, 7)]


def levels() -> list[torch.Tensor]:
    return [rand(2, 70, 3, 4), rand(2, 5, 2, 2)]


#: arguments of each operator
ARGUMENTS: dict[str, Callable[[], tuple[Any, ...]]] = {
    "cosine_distance": lambda: (rand(2, 70, 3, 4), rand(2, 70, 3, 4), 1e-8),
    "cosine_distance_backward": lambda: (
        rand(2, 3, 4), rand(2, 70, 3, 4), rand(2, 70, 3, 4), 1e-8, True, True
    ),
    "anomaly_map": lambda: (levels(), levels(), [9, 8], 1.0, "product", [0.5, 1.0]),
    "upsample_blur": lambda: ([rand(2, 3, 4)], [9, 8], 1.0, "sum", None),
    "nearest_templates": lambda: (rand(4, 9), rand(70, 9), 3, "l2", whole(4)),
    "greedy_coreset": lambda: (rand(30, 4), 5, 0),
    "label_regions": lambda: (marks(2, 6, 7),),
    "component_samples": lambda: (images(), masks()),
    "region_samples": lambda: (images(), masks(2)),
    "au_pro": lambda: (images(), masks(), 0.3),
    "pro_curve": lambda: (images(), masks()),
    "au_spro": lambda: (images(), masks(2), whole(4), [0.05, 1.0]),
    "spro_curve": lambda: (images(), masks(2), whole(4)),
    "spro_area": lambda: (rand(30), rand(FOUND), whole(3), whole(2), [0.05, 1.0]),
    "auroc": lambda: (rand(6, 7), marks(6, 7)),
}  # fmt: skip
#: other ways that an operator takes
OTHERS: dict[str, tuple[str, Callable[[], tuple[Any, ...]]]] = {
    "many queries": ("nearest_templates", lambda: (rand(40, 9), rand(70, 9), 3, "l2", None)),
    "many neighbours": ("nearest_templates", lambda: (rand(4, 9), rand(90, 9), 70, "dot", None)),
}
#: what is read from the device, in one go. The sweep's first look at masks: marked pixels, empty regions,
#: saturations that are too low, pixels in any region, NaN, components
LOOKS = {"native": [FOUND, 0, 0, FOUND, 0, 4], "torch": [0, FOUND]}
ANSWERS = {
    "native": {"spro_area": [True, True, False, False]},
    "torch": {name: [0, 0, 0] for name in ("region_samples", "au_spro", "spro_curve")},
}


class Answers(TorchDispatchMode):
    """A number for what waits for the device, a size for what depends on values."""

    def __torch_dispatch__(self, operator: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        aten, packet = torch.ops.aten, operator.overloadpacket
        if packet is aten.equal:
            return True
        if packet is aten._local_scalar_dense:
            return False if args[0].dtype == torch.bool else FOUND
        if packet is aten.nonzero:
            return whole(2, args[0].dim())
        if packet is aten._unique2:
            like = args[0]
            return like.new_empty(FOUND), whole(like.numel()), whole(0)
        if packet is aten.index and args[1][0].dtype == torch.bool:
            values, (mask,) = args
            assert values.device == mask.device
            return values.new_empty((FOUND, *values.shape[mask.dim() :]))
        return operator(*args, **(kwargs or {}))


def tensors(result: Any) -> Iterator[torch.Tensor]:
    if isinstance(result, torch.Tensor):
        yield result
    else:
        for one in result:
            yield from tensors(one)


def results_of(
    name: str, backend: str, make: Callable[[], tuple[Any, ...]], monkeypatch: pytest.MonkeyPatch
) -> list[torch.Tensor]:
    monkeypatch.setattr(resample, "in_thread", lambda make, device: make())
    monkeypatch.setattr(resample, "_kept", {})
    monkeypatch.setattr(torch, "autocast", lambda *given, **options: nullcontext())
    answers = ANSWERS[backend].get(name, LOOKS[backend])
    monkeypatch.setattr(FakeTensor, "tolist", lambda tensor: answers[: len(tensor)])
    call = (registration.CUDA_KERNELS if backend == "native" else registration.TORCH_PATHS)[name]
    with FakeTensorMode(allow_non_fake_inputs=False), Answers():
        return list(tensors(call(*make())))


class Recorder:
    """A native module that launches nothing: it gives numbers where a number is asked for."""

    NUMBERS = (
        "cuda_bank_strips", "cuda_coreset_blocks", "cuda_sweep_segments", "cuda_sweep_chunks",
        "cuda_covered_bytes", "cuda_select_strips", "cuda_sweep_scratch",
    )  # fmt: skip

    def __getattr__(self, name: str) -> Callable[..., Any]:
        return lambda *given: 64 if name in self.NUMBERS else None


@pytest.fixture
def recorder(monkeypatch: pytest.MonkeyPatch) -> None:
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
    monkeypatch.setattr(scoring_cuda, "_matrices", {})
    for cached in ("row_band", "column_blocks"):  # else later tests would meet fake tensors there
        monkeypatch.setattr(blur, cached, getattr(blur, cached).__wrapped__)
    for module in (scoring_cuda, retrieval_cuda, sweep_cuda, sweep_labels):
        monkeypatch.setattr(module, "view", view)
    monkeypatch.setattr(retrieval_cuda, "_are_operands", lambda rows: False)


@pytest.mark.parametrize("name", registration.TORCH_PATHS)
def test_torch_path(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    results = results_of(name, "torch", ARGUMENTS[name], monkeypatch)
    assert results
    assert all(r.device == GPU for r in results)


def test_captured_search(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retrieval, "capturing", lambda device: True)
    results = results_of("nearest_templates", "torch", ARGUMENTS["nearest_templates"], monkeypatch)
    assert all(r.device == GPU for r in results)


@pytest.mark.parametrize("name", [*registration.CUDA_KERNELS, *OTHERS])
def test_native_callers(name: str, recorder: None, monkeypatch: pytest.MonkeyPatch) -> None:
    operator, make = OTHERS[name] if name in OTHERS else (name, ARGUMENTS[name])
    results = results_of(operator, "native", make, monkeypatch)
    assert results
    assert all(r.device == GPU for r in results)


def test_a_missing_device_is_found(recorder: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """In an operation, and in what is handed to a kernel."""
    with FakeTensorMode(allow_non_fake_inputs=False), pytest.raises(Exception, match="device"):
        rand(3) + torch.empty(3)
    arange = torch.arange
    monkeypatch.setattr(torch, "arange", lambda *given, device=None, **options: arange(*given, **options))
    with pytest.raises(Exception, match=r"device|meta"):
        results_of("component_samples", "native", ARGUMENTS["component_samples"], monkeypatch)
