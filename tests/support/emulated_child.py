"""The self-check's child process with the emulator in the place of the card, and a fault planted in a kernel.

python emulated_child.py MODULE FAULT DEVICE SCALE OPERATOR...
"""

from __future__ import annotations

import importlib.util
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch

from thfr_ext.core import devices, registration, self_check_child


@contextmanager
def here(tensor: torch.Tensor) -> Iterator[int]:
    yield 0


def emulate(module: str) -> None:
    spec = importlib.util.spec_from_file_location("_emulated", module)
    assert spec is not None
    assert spec.loader is not None
    devices.native = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(devices.native)
    devices.on_device_of = here


class Faulty:
    """The emulated module, whose ``cuda_cosine_distances`` gets its arguments through ``before``."""

    def __init__(self, module: Any, before: Callable[[], None], after: Callable[[Any], None]) -> None:
        self._module, self._before, self._after = module, before, after

    def __getattr__(self, name: str) -> Any:
        function = getattr(self._module, name)
        if name != "cuda_cosine_distances":
            return function

        def call(levels: Any, *rest: Any) -> Any:
            self._before()
            result = function(levels, *rest)
            self._after(levels)
            return result

        return call


def one_wrong_number(levels: Any) -> None:
    """The last location of the last level: what a kernel with a wrong bound at the edge would leave."""
    import ctypes
    import math

    pointer, dtype, shape, _ = levels[-1][2]
    count = math.prod(shape)
    if count and dtype == 0:
        numbers = (ctypes.c_float * count).from_address(pointer)
        numbers[count - 1] += 1e-3


def abort() -> None:
    os.kill(os.getpid(), signal.SIGSEGV)


def fail() -> None:
    raise RuntimeError("CUDA error: an illegal memory access was encountered")


def nothing(*_: Any) -> None:
    return None


FAULTS: dict[str, tuple[Callable[[], None], Callable[[Any], None]]] = {
    "none": (nothing, nothing),
    "wrong": (nothing, one_wrong_number),
    "crash": (abort, nothing),
    "hang": (lambda: time.sleep(10_000), nothing),
    "raise": (fail, nothing),
}


def race(fault: str) -> None:
    """The emulator is slower than any kernel: what is timed is told, not measured."""
    ratio = 0.5 if fault == "slow" else 2.0
    seconds = iter([1.0, ratio] * 100)
    self_check_child._seconds = lambda call, device: next(seconds)


if __name__ == "__main__":
    module, fault, *rest = sys.argv[1:]
    emulate(module)
    devices.native = Faulty(devices.native, *FAULTS.get(fault, FAULTS["none"]))
    race(fault)
    assert set(registration.CUDA_KERNELS) <= set(registration.TORCH_PATHS)
    sys.exit(self_check_child.main(rest))
