"""The CUDA kernels on the CPU: `make emulate` builds the module, with sanitizers, and runs these tests."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType

import pytest
import torch
from support.absent import absent

from thfr_ext.core import devices


def pytest_pycollect_makemodule(module_path: Path, parent: pytest.Collector) -> pytest.Module | None:
    built = "THFR_EMULATED" in os.environ
    return None if built else absent(module_path, parent, "the emulator is not built: make emulate")


@pytest.fixture(scope="session")
def emulated() -> ModuleType:
    """The module, which has the ``cuda_*`` functions of ``thfr_ext._C``."""
    path = next(Path(os.environ["THFR_EMULATED"]).glob("_emulated*.so"))
    spec = importlib.util.spec_from_file_location("_emulated", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(params=[0, 1, 2], ids=lambda seed: f"order{seed}")
def order(request: pytest.FixtureRequest) -> int:
    """0: blocks and threads as they are numbered; else the seed of their order."""
    return int(request.param)


@pytest.fixture
def device(emulated: ModuleType, order: int, monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    """Kernels are launched on CPU tensors; new memory is full of NaN or of the largest integer."""

    @contextmanager
    def here(tensor: torch.Tensor) -> Iterator[int]:
        assert tensor.device.type == "cpu"
        yield 0

    monkeypatch.setattr(devices, "native", emulated)
    monkeypatch.setattr(devices, "on_device_of", here)
    before = torch.are_deterministic_algorithms_enabled()
    torch.use_deterministic_algorithms(True)  # fills what torch.empty gives
    emulated.set_options(seed=order)
    emulated.statistics()
    yield emulated
    emulated.set_options()
    torch.use_deterministic_algorithms(before)
