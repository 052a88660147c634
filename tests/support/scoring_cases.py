"""Layouts that lead to each path of the scoring kernels, and what the tests of all of them use."""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType

import torch
from support.scoring_oracle import CASES, LAYOUTS
from torch import Tensor

DTYPES = (torch.float32, torch.float64, torch.float16, torch.bfloat16)


def misaligned(t: Tensor) -> Tensor:
    """The same values and strides, an element further on in memory."""
    memory = torch.full((t.numel() + 1,), torch.nan, dtype=t.dtype)
    return memory[1:].view(t.shape).copy_(t)


def apart(t: Tensor, dim: int) -> Tensor:
    """The same values in the same order, the neighbours along one dimension an element further apart."""
    strides, step = list(t.stride()), 1
    for d in sorted(range(4), key=lambda d: t.stride(d)):
        strides[d] = step + (d == dim)
        step = strides[d] * t.shape[d]
    return torch.full((step,), torch.nan, dtype=t.dtype).as_strided(t.shape, strides).copy_(t)


#: layout -> the path it takes, if width, height and channels are multiples of 8
PATHS: dict[str, str] = {
    "contiguous": "planes",
    "channels last": "channels",
    "misaligned": "strided",
    "spaced": "strided",
    "cropped": "strided",
    "transposed": "strided",
    "batch last": "strided",
    "channels cut": "channels",
}


def laid_out(t: Tensor, layout: str) -> Tensor:
    return misaligned(t) if layout == "misaligned" else LAYOUTS[layout](t)


def inputs(case: str, shape: tuple[int, ...], dtype: torch.dtype, layout: str) -> tuple[Tensor, Tensor]:
    torch.manual_seed(0)
    x, y = (laid_out(t.to(dtype), layout) for t in CASES[case](shape))
    return x, y


def superfluous_barriers(emulated: ModuleType, is_right: Callable[[], bool]) -> list[int]:
    """The barriers without which every order of the threads leaves the result right."""
    emulated.set_options(seed=1)
    emulated.statistics()
    assert is_right()
    _, barriers = emulated.statistics()
    assert barriers > 0

    def survives(barrier: int, seed: int) -> bool:
        emulated.set_options(seed=seed, dropped_barrier=barrier)
        try:
            return is_right()
        except RuntimeError:
            return False

    try:
        return [i for i in range(barriers) if all(survives(i, seed) for seed in range(1, 6))]
    finally:
        emulated.set_options()
