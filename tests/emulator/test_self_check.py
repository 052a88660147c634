"""The self-check with the emulator in the place of the card: what it refuses, what it accepts."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

from thfr_ext.core import registration, verdicts
from thfr_ext.core.self_check import check_with

CHILD = Path(__file__).parents[1] / "support/emulated_child.py"
CPU = torch.device("cpu")
NAME = "cosine_distance"
OTHER = "auroc"

# AddressSanitizer catches the crash that the self-check is to see, and its slowness would decide the race.
pytestmark = [
    pytest.mark.skipif("asan" in os.environ.get("LD_PRELOAD", ""), reason="not under AddressSanitizer"),
    pytest.mark.timeout(900),
]


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("THFR_CACHE", str(tmp_path))
    verdicts.of.cache_clear()
    return tmp_path


def check(
    emulated: ModuleType, fault: str, names: list[str], time_limit: float = 300.0
) -> dict[str, dict[str, Any]]:
    child = [sys.executable, str(CHILD), str(emulated.__file__), fault]
    return check_with(child, CPU, names, time_limit, scale=0.05)["operators"]  # type: ignore[no-any-return]


def test_good_kernels_are_accepted(emulated: ModuleType) -> None:
    found = check(emulated, "none", list(registration.CUDA_KERNELS))
    kept = verdicts.of(CPU)
    assert kept is not None
    for name in registration.CUDA_KERNELS:
        assert found[name]["verdict"] == "ok", found[name]
        assert found[name]["used"]
        assert verdicts.good(kept[name])


REFUSED = {"wrong": "wrong", "crash": "crashed", "hang": "hung", "raise": "raised", "slow": "ok"}


@pytest.mark.parametrize("fault", REFUSED)
def test_bad_kernels_are_refused(fault: str, emulated: ModuleType) -> None:
    """And the operators after it are checked all the same."""
    names = [NAME, OTHER]
    found = check(emulated, fault, names, 40.0 if fault == "hang" else 300.0)
    assert found[NAME]["verdict"] == REFUSED[fault], found
    assert not found[NAME]["used"]
    kept = verdicts.of(CPU)
    assert kept is not None
    assert not verdicts.good(kept[NAME])
    assert found[OTHER]["verdict"] == "ok"
    assert found[OTHER]["used"] == (fault != "slow")
