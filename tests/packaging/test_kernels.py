"""What the compiler makes of the CUDA kernels: none spills registers to memory."""

from __future__ import annotations

import importlib
import shutil
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("nvcc") is None, reason="nvcc is absent")
@pytest.mark.parametrize("arch", ["80", "90"])
def test_no_spills(arch: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    kernels = importlib.import_module("gpu_check").ptxas(arch)
    assert {one["arch"] for one in kernels} == {f"sm_{arch}"}
    for room in ("distance", "backward", "blend", "search", "select", "step", "count", "share", "link"):
        assert any(f"{room}_kernel" in one["kernel"] for one in kernels)
    assert [one["kernel"] for one in kernels if one["spills"]] == []
    assert all(one["registers"] <= 255 and one["shared"] <= 48 * 1024 for one in kernels)
