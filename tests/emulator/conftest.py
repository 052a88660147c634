"""The CUDA kernels on the CPU: `make emulate` builds the module, with sanitizers, and runs these tests."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
from support.absent import absent
from support.device import EMULATED, emulation, emulator


def pytest_pycollect_makemodule(module_path: Path, parent: pytest.Collector) -> pytest.Module | None:
    return None if EMULATED else absent(module_path, parent, "the emulator is not built: make emulate")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if "tests/emulator/" in item.path.as_posix():
            item.add_marker(pytest.mark.emulated)


@pytest.fixture(scope="session")
def emulated() -> ModuleType:
    return emulator()


@pytest.fixture(params=[0, 1, 2], ids=lambda seed: f"order{seed}")
def order(request: pytest.FixtureRequest) -> int:
    return int(request.param)


@pytest.fixture
def device(order: int) -> Iterator[ModuleType]:
    """The emulator's module, whose kernels the operators' callers launch."""
    with emulation(order) as module:
        yield module
