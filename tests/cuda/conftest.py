"""Tests that need a GPU; they hold for either backend. `make gpu-check` runs them with the native kernels."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from support.absent import absent


def pytest_pycollect_makemodule(module_path: Path, parent: pytest.Collector) -> pytest.Module | None:
    return None if torch.cuda.is_available() else absent(module_path, parent, "no CUDA device")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if "tests/cuda/" in item.path.as_posix():
            item.add_marker(pytest.mark.cuda)
