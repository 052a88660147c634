"""Images in tiles: cut, scored one place after the other, their maps blended where they overlap.

A whole image is read at the size that its tiles cover together (``ModelConfig.canvas``), so every tile has
the network's input size and nothing is resized twice.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import lru_cache

import torch
from torch import Tensor
from torch.nn import functional as F

from thfr.config import ModelConfig
from thfr.io.sizes import Size, starts

_places: ContextVar[Tensor | None] = ContextVar("places", default=None)


def current_places(images: int) -> Tensor:  # int64 [images]
    """The place in its image, counted row by row, of each tile that is being scored; 0 where images are seen
    as a whole.
    """
    places = _places.get()
    return torch.zeros(images, dtype=torch.int64) if places is None else places


@contextmanager
def _at(places: Tensor) -> Iterator[None]:
    token = _places.set(places)
    try:
        yield
    finally:
        _places.reset(token)


def corners(model: ModelConfig) -> list[tuple[int, int]]:
    """Top and left of each tile on the canvas, row by row."""
    rows, columns = (
        starts(edge, count, model.overlap) for edge, count in zip(model.size, model.tiles, strict=True)
    )
    return [(top, left) for top in rows for left in columns]


def tiles_of(
    images: Tensor,  # uint8 [N,3,H,W]
    model: ModelConfig,
) -> Tensor:  # uint8 [N*T,3,h,w]
    """All tiles of all images, those of an image together."""
    if model.tile_count == 1:
        return images
    height, width = model.size
    cut = [images[:, :, top : top + height, left : left + width] for top, left in corners(model)]
    return torch.stack(cut, 1).flatten(0, 1)


def blend_weights(model: ModelConfig, device: torch.device | None = None) -> Tensor:  # fp32 [T,h,w]
    """The share of each tile at its pixels: 1, but falling to 0 linearly where it overlaps with others. The
    shares of a pixel of the canvas add up to 1.
    """
    return _blend_weights(model.size, model.tiles, model.overlap, device or torch.device("cpu"))


@lru_cache(maxsize=8)
def _blend_weights(size: Size, tiles: Size, overlap: float, device: torch.device) -> Tensor:
    axes = []
    for edge, count in zip(size, tiles, strict=True):
        shared = round(edge * overlap)
        rising = torch.arange(1, shared + 1) / (shared + 1)
        shares = torch.ones(count, edge)
        if shared:
            shares[1:, :shared] = rising
            shares[:-1, edge - shared :] = rising.flip(0)
        axes.append(shares)
    rows, columns = axes
    return (rows[:, None, :, None] * columns[None, :, None, :]).flatten(0, 1).to(device)


Score = Callable[[Tensor], tuple[Tensor, Tensor]]
"""uint8 [B,3,h,w] to maps fp32 [B,h,w] and scores [B]."""


def each_place(
    images: Tensor,  # uint8 [B,3,H,W]
    model: ModelConfig,
) -> Iterator[tuple[Tensor, slice, slice]]:
    """For one place after the other the tiles of all images, uint8 [B,3,h,w], and their rows and columns on
    the canvas; meanwhile it is the one of :func:`current_places`.
    """
    height, width = model.size
    for place, (top, left) in enumerate(corners(model)):
        rows, columns = slice(top, top + height), slice(left, left + width)
        with _at(torch.full((len(images),), place, device=images.device)):
            yield images[:, :, rows, columns].contiguous(), rows, columns


def score_tiles(
    images: Tensor,  # uint8 [B,3,H,W]
    model: ModelConfig,
    score: Score,
) -> Tensor:  # fp32 [B,H,W]
    """Blended maps; the tiles of one place of all images at a time, so that memory is that of B tiles."""
    blended: Tensor | None = None
    for place, (tiles, rows, columns) in enumerate(each_place(images, model)):
        maps = score(tiles)[0]
        if blended is None:
            blended = maps.new_zeros(len(images), *model.canvas)
        blended[:, rows, columns] += maps * blend_weights(model, maps.device)[place]
    assert blended is not None
    return blended


def score_tiles_together(
    images: Tensor,  # uint8 [B,3,H,W]
    model: ModelConfig,
    score: Score,
) -> Tensor:  # fp32 [B,H,W]
    """As :func:`score_tiles`, all tiles in one batch: for a graph, which must not repeat the network."""
    count, (height, width) = model.tile_count, model.size
    places = torch.arange(count).expand(images.shape[0], count).reshape(-1)
    with _at(places):
        maps = score(tiles_of(images, model))[0]
    shared = maps.unflatten(0, (-1, count)) * blend_weights(model, maps.device)
    blended: Tensor | None = None
    for place, (top, left) in enumerate(corners(model)):
        right, bottom = model.canvas[1] - left - width, model.canvas[0] - top - height
        padded = F.pad(shared[:, place], (left, right, top, bottom))
        blended = padded if blended is None else blended + padded
    assert blended is not None
    return blended
