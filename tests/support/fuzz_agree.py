"""The CUDA kernels beside the CPU's on the same random arguments: on a device, or on the emulator."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from support.device import Move, moved
from support.fuzz_driver import OPERATORS, REGISTERED, brief
from support.fuzz_results import as_array, finite, numbers
from torch import Tensor


def outcome(call: Callable[..., Any], arguments: list[Any]) -> Any:
    try:
        return call(*arguments)
    except (ValueError, TypeError) as error:
        return error


def tolerance(result: Any) -> float:
    dtype = result.dtype if isinstance(result, Tensor) else torch.float64
    return {torch.float16: 2e-3, torch.bfloat16: 2e-2, torch.float32: 2e-5}.get(dtype, 1e-9)


def same(cpu: Any, cuda: Any, slack: float) -> bool:
    a, b = as_array(cpu), as_array(cuda.cpu() if isinstance(cuda, Tensor) else cuda)
    return a.shape == b.shape and np.allclose(a, b, rtol=slack, atol=slack, equal_nan=True)


def same_neighbours(cpu: Any, cuda: Any) -> bool:
    """Equal scores; the same row wherever the scores beside it are further away than rounding."""
    slack = tolerance(cpu[0])
    if not same(cpu[0], cuda[0], slack):
        return False
    scores, rows, others = as_array(cpu[0]), as_array(cpu[1]), as_array(cuda[1].cpu())
    room = slack * (1 + np.abs(scores))
    apart = np.ones_like(scores, dtype=bool)
    if scores.shape[1] > 1:
        gaps = np.abs(np.diff(scores, axis=1)) > 4 * room[:, 1:]
        apart[:, :-1] &= gaps
        apart[:, 1:] &= gaps
    apart[:, -1:] = False  # a row beyond the last may be as good
    return bool((rows == others)[apart].all())


def agree(name: str, cpu: Any, cuda: Any, arguments: list[Any]) -> bool:
    if isinstance(cpu, Exception):
        # A kernel does not wait for values: those that are not finite come back as NaN, never as an error.
        nan = not isinstance(cuda, Exception) and not all(
            np.isfinite(as_array(r.cpu())).all() for r in numbers(cuda)
        )
        return str(cuda) == str(cpu) if isinstance(cuda, Exception) else nan or not finite(arguments)
    if isinstance(cuda, Exception):
        return False
    if name == "nearest_templates":
        return same_neighbours(cpu, cuda)
    pairs = zip(numbers(cpu), numbers(cuda), strict=True)
    return all(same(a, b, tolerance(a)) for a, b in pairs)


def compare(name: str, native: Callable[..., Any], move: Move, cases: int) -> None:
    """``native`` on arguments that fit, moved to where it runs, against the CPU's kernel."""
    make, _ = REGISTERED[name]
    compared = 0
    for case in range(cases):
        arguments = make(random.Random(f"{name} {case}"))
        cpu = outcome(getattr(OPERATORS, name), arguments)
        cuda = outcome(native, moved(arguments, move))
        assert agree(name, cpu, cuda, arguments), f"{brief(arguments)}: {cpu} on the CPU, {cuda}"
        compared += not isinstance(cpu, Exception)
    assert compared > cases // 4
