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
from thfr.methods.thfr.bands import Bands

_REACH = 5.0
"""Standard deviations of the prior within which a key counts; farther ones move a map by 5e-6 of its largest
value (docs/results/export.md). Of two logits within 2 * 30 + 12.5 of each other no softmax makes a denormal
number, and those slow matrix products tenfold.
"""
_BAND = 256
"""Least number of queries that are attended to together."""


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
        self.temperature, self.pool = temperature, pool
        self.heads = heads
        self.query = nn.Conv2d(channels, channels, 1, bias=False)
        self.key = nn.Conv2d(template_channels, channels, 1, bias=False)
        # Values are the template's features as they are: projecting them before the attention, too, would add
        # nothing to projecting its result, both being linear.
        self.output = nn.Conv2d(template_channels, channels, 1)
        self.bands = Bands(prior_width, _REACH, _BAND)

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
        cells = stride / 16, stride * self.pool / 16
        bands = self.bands.of(x.shape[2:], cells[0], template.shape[2:], cells[1], count, x.device)
        attended = torch.cat(
            [
                F.scaled_dot_product_attention(
                    query[:, :, rows],
                    key[:, :, near],
                    value[:, :, near],
                    attn_mask=prior[None].to(query.dtype),
                    scale=self.temperature,
                )
                for rows, near, prior in bands
            ],
            2,
        )
        matched = attended.transpose(2, 3).reshape(batch, -1, *x.shape[2:])[:, :channels]
        matched = matched.contiguous(memory_format=torch.channels_last)
        return x + self.output(matched), matched


def _tokens(x: Tensor, batch: int, heads: int) -> Tensor:
    """[B*K,C,H,W] to [B,heads,H*K*W,C/heads]: rows outermost, so that a band of them is one piece."""
    _, channels, height, width = x.shape
    split = x.reshape(batch, -1, heads, channels // heads, height, width)
    return split.permute(0, 2, 4, 1, 5, 3).flatten(2, 4)
