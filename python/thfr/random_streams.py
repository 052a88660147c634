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


def generator(seed: int, stream: int, step: int) -> torch.Generator:
    """A generator that depends on nothing but its arguments."""
    state = int(np.random.SeedSequence([seed, stream, step]).generate_state(1, np.uint64)[0])
    return torch.Generator().manual_seed(state & 0x7FFF_FFFF_FFFF_FFFF)
