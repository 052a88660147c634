"""Which keys the queries of an attention see: bands of rows, and a prior on how far away they lie."""

from __future__ import annotations

import torch
from torch import Tensor

Band = tuple[slice, slice, Tensor]
"""Which queries, which keys, and the prior [1,queries,keys]."""


class Bands:
    """Bands of rows of queries with the keys in reach of them, kept for the size in use.

    The prior is -d^2 / (2 width^2) for the distance d in cells of stride 16, minus infinity out of reach.
    Tokens are in rows, each row holding that of one template after the other.

    Args:
        width: standard deviation of the prior, in cells of stride 16.
        reach: standard deviations within which a key counts.
        least: queries that are attended to together at least: few of them see fewer keys that do not count,
            but many small products are slow.
    """

    def __init__(self, width: float, reach: float, least: int) -> None:
        self.width, self.reach, self.least = width, reach, least
        self._held: dict[tuple[object, ...], list[Band]] = {}

    def of(
        self,
        queries: tuple[int, ...],  # (H, W)
        cell: float,  # of the queries, in cells of stride 16
        keys: tuple[int, ...],  # (h, w)
        key_cell: float,
        count: int,  # templates
        device: torch.device,
    ) -> list[Band]:
        """The bands for grids of these sizes."""
        name = (*queries, cell, *keys, key_cell, count, device)
        bands = self._held.get(name)
        if bands is None:
            bands = self._made(queries, cell, keys, key_cell, count, device)
            self._held = {name: bands}  # of the size in use; threads may each make it, none sees half of it
        return bands

    def _made(
        self,
        queries: tuple[int, ...],
        cell: float,
        keys: tuple[int, ...],
        key_cell: float,
        count: int,
        device: torch.device,
    ) -> list[Band]:
        reach = max(self.reach * self.width, 2 * key_cell)  # the nearest key is always in it
        distances = torch.cdist(_centres(queries, cell, device), _centres(keys, key_cell, device))
        distances = distances.view(*queries, *keys)
        height = max(round(0.6 * reach / cell), -(-self.least // queries[1]))
        bands, line = [], count * keys[1]
        for top in range(0, queries[0], height):
            band = distances[top : top + height]
            rows = (band <= reach).any(3).any(1).any(0).nonzero()
            first, last = int(rows[0]), int(rows[-1]) + 1
            near = band[:, :, first:last, None].expand(-1, -1, -1, count, -1).flatten(2).flatten(0, 1)
            prior = (near / self.width).square() / -2
            prior = prior.masked_fill(near > reach, -torch.inf)[None]
            start, end = top * queries[1], top * queries[1] + len(near)
            bands.append((slice(start, end), slice(first * line, last * line), prior))
        return bands


def _centres(grid: tuple[int, ...], cell: float, device: torch.device) -> Tensor:
    """The centres of the locations of a grid, a ``cell`` apart: [HW,2]."""
    rows, columns = ((torch.arange(edge, device=device) + 0.5) * cell for edge in grid)
    return torch.cartesian_prod(rows, columns)
