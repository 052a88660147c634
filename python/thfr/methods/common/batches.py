"""Which images a step sees: pure functions of (seed, step), so nothing has to be saved."""

from __future__ import annotations

import torch
from torch import Tensor

from thfr.random_streams import Stream, generator


def held_out(images: int, share: float, seed: int) -> Tensor:
    """Indices of the images that are not learnt from, int64 [round(share * images)], ascending; at least one
    where ``share`` is not 0.
    """
    count = max(round(share * images), 1) if share > 0 else 0
    return torch.randperm(images, generator=generator(seed, Stream.HOLDOUT, 0))[:count].sort().values


def batch_indices(images: int, batch_size: int, seed: int, step: int) -> Tensor:
    """Indices of the images of one step, int64 [batch_size]: every epoch is a new order, from which the last
    batch is filled up.
    """
    steps = -(-images // batch_size)
    order = torch.randperm(images, generator=generator(seed, Stream.ORDER, step // steps))
    positions = torch.arange(batch_size) + (step % steps) * batch_size
    return order[positions % images]
