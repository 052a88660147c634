"""Independent random streams: pure functions of (seed, stream, step), so that a training that is resumed has
no generator state to restore.
"""

from __future__ import annotations

from enum import IntEnum

import numpy as np
import torch


class Stream(IntEnum):
    """What the numbers of a stream are for."""

    ORDER = 1
    """Which images a step sees."""
    CORRUPTION = 2
    """Rectangles pasted into features, or patches into images."""
    SCRAMBLING = 3
    """Patches pasted into the images that a visualization network sees."""
    AUGMENTATION = 3  # drawn by NumPy, so its numbers are not those of SCRAMBLING
    HOLDOUT = 4
    """Which images are not learnt from."""
    SHOTS = 5
    """Which of the others are."""


def generator(seed: int, stream: int, step: int) -> torch.Generator:
    """A generator that depends on nothing but its arguments."""
    state = int(np.random.SeedSequence([seed, stream, step]).generate_state(1, np.uint64)[0])
    return torch.Generator().manual_seed(state & 0x7FFF_FFFF_FFFF_FFFF)


def integer(rng: torch.Generator, low: int, high: int) -> int:
    """A whole number from ``low`` to ``high``, both included."""
    return int(torch.randint(low, high + 1, (), generator=rng))


_PERMUTED = 1 << 24  # numbers whose order fits into memory with ease


def drawn(total: int, count: int, rng: torch.Generator) -> torch.Tensor:
    """``count`` of the numbers below ``total``, all different, int64, ascending. Memory is bounded by
    ``count`` and a constant.
    """
    if total <= _PERMUTED or 2 * count >= total:
        return torch.randperm(total, generator=rng)[:count].sort().values
    found = torch.empty(0, dtype=torch.int64)
    while len(found) < count:
        found = torch.cat([found, torch.randint(total, (count,), generator=rng)]).unique()
    keep = torch.randperm(len(found), generator=rng)[:count]
    return found[keep].sort().values
