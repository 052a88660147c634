"""The operators wherever their kernels run: on the CPU, on the emulated CUDA device, on a real one."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from hypothesis import settings
from torch import Tensor

from thfr_ext.core import devices, registration

Move = Callable[[Tensor], Tensor]
EMULATED = "THFR_EMULATED" in os.environ


#: of the fixture ``device``
DEVICES: list[Any] = ["cpu"]
if EMULATED:
    DEVICES.append(pytest.param("emulated", marks=pytest.mark.emulated))
if torch.cuda.is_available():
    DEVICES.append(pytest.param("cuda", marks=pytest.mark.cuda))


def _only(*names: str) -> pytest.MarkDecorator:
    there = [d for d in DEVICES if (d if isinstance(d, str) else d.values[0]) in names]
    return pytest.mark.parametrize("device", there, indirect=True)


CPU = _only("cpu")
NOT_CUDA = _only("cpu", "emulated")
#: for tests that would take too long on the emulated one
REAL_DEVICES = _only("cpu", "cuda")


def examples(count: int, **options: Any) -> settings:
    """Of hypothesis; fewer where the emulator runs."""
    return settings(deadline=None, max_examples=min(count, 25) if EMULATED else count, **options)


def moved(value: Any, move: Move) -> Any:
    if isinstance(value, Tensor):
        return move(value)
    return type(value)(moved(v, move) for v in value) if isinstance(value, (list, tuple)) else value


class Device:
    """Operators by name, on tensors of the CPU, with results there. ``name``: cpu, emulated or cuda."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __getattr__(self, operator: str) -> Callable[..., Any]:
        if self.name == "cuda":
            run = getattr(torch.ops.thfr_ext, operator)
            return lambda *given: moved(run(*moved(given, Tensor.cuda)), Tensor.cpu)
        if self.name == "cpu":
            found: Callable[..., Any] = getattr(torch.ops.thfr_ext, operator)
            return found
        return registration.CUDA_KERNELS[operator]


@cache
def emulator() -> ModuleType:
    """The module, which has the ``cuda_*`` functions of ``thfr_ext._C``."""
    path = next(Path(os.environ["THFR_EMULATED"]).glob("_emulated*.so"))
    spec = importlib.util.spec_from_file_location("_emulated", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@contextmanager
def emulation(order: int) -> Iterator[ModuleType]:
    """Kernels are launched on CPU tensors; new memory is full of NaN or of the largest integer.

    ``order``: 0: blocks and threads as they are numbered; else the seed of their order.
    """

    @contextmanager
    def here(tensor: Tensor) -> Iterator[int]:
        assert tensor.device.type == "cpu"
        yield 0

    module, before = emulator(), torch.are_deterministic_algorithms_enabled()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(devices, "native", module)
        patch.setattr(devices, "on_device_of", here)
        torch.use_deterministic_algorithms(True)  # fills what torch.empty gives
        module.set_options(seed=order)
        module.statistics()
        try:
            yield module
        finally:
            module.set_options()
            torch.use_deterministic_algorithms(before)
