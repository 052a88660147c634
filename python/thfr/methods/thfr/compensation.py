"""Template-guided compensation: attention from the restored features to the template's, level by level.

A plain attention is ignored by training (the bottlenecks already solve the loss). Unit-norm queries and keys
with a high temperature make it choose, and a positional prior makes it choose near the same location, where
an aligned template has what belongs there.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from thfr.errors import InputError

_REACH = 5.0
"""Standard deviations of the prior within which a key counts; farther ones move a map by 5e-6 of its largest
value (docs/results/export.md). Of two logits within 2 * 30 + 12.5 of each other no softmax makes a denormal
number, and those slow matrix products tenfold.
"""
_BAND = 256
"""Least number of queries that are attended to together: few of them see fewer keys that do not count, but
many small products are slow, in training above all.
"""

_Band = tuple[slice, slice, Tensor]


class Compensation(nn.Module):
    """Adds to the decoder's features what the template shows at the matching locations.

    Queries come from the decoder, keys and values from the template's features; the input image's features
    never enter.
    """

    def __init__(
        self,
        channels: int,
        template_channels: int,
        heads: int,
        temperature: float,
        prior_width: float,
        pool: int,
    ) -> None:
        super().__init__()
        if channels % heads:
            raise InputError(
                f"Compensation: attention_heads: expected a divisor of the width, {channels}, got {heads}"
            )
        self.temperature, self.prior_width, self.pool = temperature, prior_width, pool
        self.heads = heads
        self.query = nn.Conv2d(channels, channels, 1, bias=False)
        self.key = nn.Conv2d(template_channels, channels, 1, bias=False)
        # Values are the template's features as they are: projecting them before the attention, too, would add
        # nothing to projecting its result, both being linear.
        self.output = nn.Conv2d(template_channels, channels, 1)
        self._bands: dict[tuple[object, ...], list[_Band]] = {}

    def forward(
        self,
        x: Tensor,  # [B,D,H,W]
        templates: Tensor,  # [B,K,C,H,W]
        stride: int,
    ) -> tuple[Tensor, Tensor]:  # [B,D,H,W] and [B,C,H,W]
        """``x`` with what the template shows, and the template's features at the matching locations."""
        batch, count, channels = templates.shape[:3]
        template = templates.flatten(0, 1)
        if self.pool > 1:
            template = F.avg_pool2d(template, self.pool)
        query = F.normalize(_tokens(self.query(x), batch, self.heads), dim=-1)
        key = F.normalize(_tokens(self.key(template), batch, self.heads), dim=-1).to(query.dtype)
        # query, key and value are equally wide: only then does the fused attention run
        padding = (0, 0, 0, 0, 0, query.shape[-1] * self.heads - channels)
        value = _tokens(F.pad(template, padding) if padding[-1] else template, batch, self.heads)
        value = value.to(query.dtype)
        attended = torch.cat(
            [
                F.scaled_dot_product_attention(
                    query[:, :, rows],
                    key[:, :, near],
                    value[:, :, near],
                    attn_mask=prior.to(query.dtype),
                    scale=self.temperature,
                )
                for rows, near, prior in self._bands_of(x, template, stride, count)
            ],
            2,
        )
        matched = attended.transpose(2, 3).reshape(batch, -1, *x.shape[2:])[:, :channels]
        matched = matched.contiguous(memory_format=torch.channels_last)
        return x + self.output(matched), matched

    def _bands_of(self, x: Tensor, template: Tensor, stride: int, count: int) -> list[_Band]:
        """Bands of rows of queries with the keys in reach of them: which queries, which keys, and the prior
        [1,1,queries,keys]: -d^2 / (2 width^2) for the distance d in cells of stride 16, minus infinity out of
        reach.
        """
        shape = (*x.shape[2:], *template.shape[2:], count)
        name = (shape, x.device)
        bands = self._bands.get(name)
        if bands is None:
            cell, key_cell = stride / 16, stride * self.pool / 16
            reach = max(_REACH * self.prior_width, 2 * key_cell)  # the nearest key is always in it
            distances = torch.cdist(_centres(x, cell), _centres(template, key_cell))
            distances = distances.view(*x.shape[2:], *template.shape[2:])
            height = max(round(0.6 * reach / cell), -(-_BAND // x.shape[3]))
            bands, line = [], count * template.shape[3]
            for top in range(0, x.shape[2], height):
                band = distances[top : top + height]
                rows = (band <= reach).any(3).any(1).any(0).nonzero()
                first, last = int(rows[0]), int(rows[-1]) + 1
                near = band[:, :, first:last, None].expand(-1, -1, -1, count, -1).flatten(2).flatten(0, 1)
                prior = (near / self.prior_width).square() / -2
                prior = prior.masked_fill(near > reach, -torch.inf)[None, None]
                width = x.shape[3]
                start, end = top * width, top * width + len(near)
                bands.append((slice(start, end), slice(first * line, last * line), prior))
            self._bands = {name: bands}  # of the size in use; threads may each make it, none sees half of it
        return bands


def _tokens(x: Tensor, batch: int, heads: int) -> Tensor:
    """[B*K,C,H,W] to [B,heads,H*K*W,C/heads]: rows outermost, so that a band of them is one piece."""
    _, channels, height, width = x.shape
    split = x.reshape(batch, -1, heads, channels // heads, height, width)
    return split.permute(0, 2, 4, 1, 5, 3).flatten(2, 4)


def _centres(x: Tensor, cell: float) -> Tensor:
    """The centres of the locations of ``x`` [B,C,H,W], a ``cell`` apart: [HW,2]."""
    rows, columns = ((torch.arange(edge, device=x.device) + 0.5) * cell for edge in x.shape[2:])
    return torch.cartesian_prod(rows, columns)
