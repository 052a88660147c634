"""Every operator that has a CUDA kernel: the emulated kernel against the CPU's on random arguments."""

from __future__ import annotations

from types import ModuleType

import pytest
from support.fuzz_agree import compare

from thfr_ext.core import registration


@pytest.mark.parametrize("name", registration.CUDA_KERNELS)
def test_against_cpu(name: str, device: ModuleType) -> None:
    compare(name, registration.CUDA_KERNELS[name], lambda tensor: tensor, cases=60)
    assert device.statistics()[0] > 0  # launches
