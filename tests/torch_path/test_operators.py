"""Every operator's PyTorch path on CPU tensors: against the kernel on random arguments."""

from __future__ import annotations

import pytest
from support.fuzz_agree import compare

from thfr_ext.core import registration


@pytest.mark.parametrize("name", registration.TORCH_PATHS)
def test_against_cpu(name: str) -> None:
    compare(name, registration.TORCH_PATHS[name], lambda tensor: tensor, cases=60)
