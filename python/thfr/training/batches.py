"""Which images a step sees and how its input is corrupted: pure functions of (seed, step), so nothing has to
be saved.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

_ORDER, _CORRUPTION, _HOLDOUT = 1, 2, 4  # independent random streams; 3 is thfr.training.augmentation's


def generator(seed: int, stream: int, step: int) -> torch.Generator:
    """A generator that depends on nothing but its arguments."""
    state = int(np.random.SeedSequence([seed, stream, step]).generate_state(1, np.uint64)[0])
    return torch.Generator().manual_seed(state & 0x7FFF_FFFF_FFFF_FFFF)


def held_out(images: int, share: float, seed: int) -> Tensor:
    """The images that are not learnt from, int64 [round(share * images)], ascending; at least one where
    ``share`` is not 0.
    """
    count = max(round(share * images), 1) if share > 0 else 0
    return torch.randperm(images, generator=generator(seed, _HOLDOUT, 0))[:count].sort().values


def batch_rows(images: int, batch_size: int, seed: int, step: int) -> Tensor:
    """The images of one step, int64 [batch_size]: every epoch is a new order, the last batch is filled up
    from it.
    """
    steps = -(-images // batch_size)
    order = torch.randperm(images, generator=generator(seed, _ORDER, step // steps))
    places = torch.arange(batch_size) + (step % steps) * batch_size
    return order[places % images]


def corrupted(
    features: list[Tensor],  # three [B,C_l,H_l,W_l]
    source: Sequence[Tensor],  # three [N,C_l,H_l,W_l], the training features
    seed: int,
    step: int,
    largest: int,
) -> list[Tensor]:
    """Copies of the features with one or two rectangles of other training images pasted in, at all levels.

    Rectangles are 2 to ``largest`` cells of the coarse level wide and high; half of them come from the same
    place of the other image (a part that is normal, but not here and now), half from any place. What the
    network must restore stays clean, so that it learns to doubt its input and to ask the template.
    """
    rng = generator(seed, _CORRUPTION, step)
    height, width = features[2].shape[2:]
    pasted = [level.clone() for level in features]
    for item in range(len(features[0])):
        for _ in range(_draw(rng, 1, 2)):
            rows, columns = (min(_draw(rng, 2, largest), edge) for edge in (height, width))
            to = from_ = (_draw(rng, 0, height - rows), _draw(rng, 0, width - columns))
            if _draw(rng, 0, 1):
                from_ = (_draw(rng, 0, height - rows), _draw(rng, 0, width - columns))
            other = _draw(rng, 0, len(source[0]) - 1)
            for level, stock in zip(pasted, source, strict=True):
                scale = level.shape[2] // height
                y, x = _window(to, (rows, columns), scale)
                v, u = _window(from_, (rows, columns), scale)
                level[item, :, y, x] = stock[other, :, v, u].to(level)
    return pasted


def _window(corner: tuple[int, int], extent: tuple[int, int], scale: int) -> tuple[slice, slice]:
    """Rows and columns, at ``scale`` times the coarse resolution, of a rectangle in cells."""
    (top, left), (rows, columns) = corner, extent
    return slice(top * scale, (top + rows) * scale), slice(left * scale, (left + columns) * scale)


def _draw(rng: torch.Generator, low: int, high: int) -> int:
    """A whole number from ``low`` to ``high``, both included."""
    return int(torch.randint(low, high + 1, (1,), generator=rng))
