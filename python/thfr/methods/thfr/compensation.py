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

_FAR = -24.5
"""Where the prior is below, 7 standard deviations away, a key counts for nothing. Of two logits within
2 * 30 + 24.5 of each other no softmax makes a denormal number, and those slow matrix products tenfold.
"""


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
        self._priors: dict[tuple[object, ...], Tensor] = {}

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
        key = F.normalize(_tokens(self.key(template), batch, self.heads), dim=-1)
        # query, key and value are equally wide: only then does the fused attention run
        padding = (0, 0, 0, 0, 0, query.shape[-1] * self.heads - channels)
        value = _tokens(F.pad(template, padding) if padding[-1] else template, batch, self.heads)
        prior = self._prior(x, template, stride, count).to(query.dtype)
        attended = F.scaled_dot_product_attention(
            query, key.to(query.dtype), value.to(query.dtype), attn_mask=prior, scale=self.temperature
        )
        matched = attended.transpose(2, 3).reshape(batch, -1, *x.shape[2:])[:, :channels]
        matched = matched.contiguous(memory_format=torch.channels_last)
        return x + self.output(matched), matched

    def _prior(self, x: Tensor, template: Tensor, stride: int, count: int) -> Tensor:
        """-d^2 / (2 width^2) for the distance d of query and key in cells of stride 16, minus infinity far
        away: [1,1,HW,K*hw].
        """
        shape = (*x.shape[2:], *template.shape[2:], count)
        name = (shape, x.device)
        prior = self._priors.get(name)
        if prior is None:
            queries = _centres(x, stride / 16)
            keys = _centres(template, stride * self.pool / 16)
            squared = torch.cdist(queries, keys).square().repeat(1, count)
            prior = (squared / (-2 * self.prior_width**2))[None, None]
            prior = prior.masked_fill(prior < _FAR, -torch.inf)
            self._priors = {name: prior}  # of the size in use; threads may each make it, none sees half of it
        return prior


def _tokens(x: Tensor, batch: int, heads: int) -> Tensor:
    """[B*K,C,H,W] to [B,heads,K*HW,C/heads]."""
    _, channels, height, width = x.shape
    split = x.reshape(batch, -1, heads, channels // heads, height * width)
    return split.permute(0, 2, 1, 4, 3).flatten(2, 3)


def _centres(x: Tensor, cell: float) -> Tensor:
    """The centres of the locations of ``x`` [B,C,H,W], a ``cell`` apart: [HW,2]."""
    rows, columns = ((torch.arange(edge, device=x.device) + 0.5) * cell for edge in x.shape[2:])
    return torch.cartesian_prod(rows, columns)
