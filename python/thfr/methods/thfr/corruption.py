"""How the input of a training step is corrupted: a pure function of (seed, step)."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from thfr.random_streams import Stream, generator, integer


def corrupted(
    features: list[Tensor],  # three [B,C_l,H_l,W_l]
    source: Sequence[Tensor],  # three [N,C_l,H_l,W_l], the training features
    seed: int,
    step: int,
    largest: int,
) -> list[Tensor]:
    """Copies of the features with one or two rectangles of other training images pasted in, at all levels.

    Rectangles are 2 to ``largest`` cells of the coarse level wide and high; half of them come from the same
    location of the other image (a part that is normal, but not here and now), half from any. What the
    network must restore stays clean, so that it learns to doubt its input and to ask the template.
    """
    rng = generator(seed, Stream.CORRUPTION, step)
    height, width = features[2].shape[2:]
    pasted = [level.clone() for level in features]
    for item in range(len(features[0])):
        for _ in range(integer(rng, 1, 2)):
            rows, columns = (min(integer(rng, 2, largest), edge) for edge in (height, width))
            to = from_ = (integer(rng, 0, height - rows), integer(rng, 0, width - columns))
            if integer(rng, 0, 1):
                from_ = (integer(rng, 0, height - rows), integer(rng, 0, width - columns))
            other = integer(rng, 0, len(source[0]) - 1)
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
