"""Every operator that has a CUDA kernel: the emulated kernel against the CPU's on random arguments."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType

import pytest

from thfr_ext.core import registration

sys.path.insert(0, str(Path(__file__).parents[1] / "fuzz"))
from fuzz_agree import compare


@pytest.mark.parametrize("name", registration.CUDA_KERNELS)
def test_against_cpu(name: str, device: ModuleType) -> None:
    compare(name, registration.CUDA_KERNELS[name], lambda tensor: tensor, cases=60)
    assert name == "merge_cells" or device.statistics()[0] > 0  # launches: cells are PyTorch's
