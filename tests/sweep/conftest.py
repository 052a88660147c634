"""Sweeps on every device."""

from __future__ import annotations

import pytest
import torch
from support.device import Device

from thfr_ext.core import registration
from thfr_ext.sweep import ops

NAMES = [name for name in registration.CUDA_KERNELS if hasattr(ops, name)]


@pytest.fixture
def device(device: Device, monkeypatch: pytest.MonkeyPatch) -> Device:
    """Functions and metrics compute there too, on tensors that stay on the CPU."""
    if device.name != "cpu":
        kernels = {name: getattr(device, name) for name in NAMES}
        for name, kernel in kernels.items():
            for place in (ops, torch.ops.thfr_ext):
                monkeypatch.setattr(place, name, kernel)
    return device
