"""The light network: what :mod:`thfr.methods.thfr.network` does at a fifth of its multiplications.

Features are never scaled: the convolutions that read them carry the scale, and what the template shows goes
to the output as it is. The nearest templates are told apart at the coarse level only: each location of the
finer ones has one template, mixed as the coarse attention saw fit. The finest level is restored in the cells
of the middle one, its squares folded into channels, and shares its attention.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from thfr.methods.common.resolution import doubled
from thfr.methods.thfr.bands import Band, Bands
from thfr.methods.thfr.bottlenecks import LightGlobalBottleneck, LightLocalBottleneck
from thfr.methods.thfr.config import THFRModelConfig
from thfr.methods.thfr.layers import LeanBlock, Scale, conv_norm
from thfr.methods.thfr.network import RestorationNetwork

_KEY = 64  # channels of queries and keys
_REACH = 2.5  # standard deviations of the prior, in training and after it; beyond are 4 % of its weight
_BAND = 128


class Relation(nn.Module):
    """How alike the decoder's features and the templates' are, as the weights of an attention."""

    def __init__(self, channels: int, template_channels: int, config: THFRModelConfig) -> None:
        super().__init__()
        self.temperature = config.attention_temperature
        self.query = nn.Conv2d(channels, _KEY, 1, bias=False)
        self.key = nn.Conv2d(template_channels, _KEY, 1, bias=False)
        self.bands = Bands(config.prior_width, _REACH, _BAND)

    def forward(
        self,
        x: Tensor,  # [B,D,H,W]
        templates: Tensor,  # [B,K,C,H,W]
        scale: Scale,
        cell: float,  # in cells of stride 16
    ) -> Weights:
        count, grid = templates.shape[1], x.shape[2:]
        keys = scale.of_standardised(self.key, templates.flatten(0, 1)).unflatten(0, templates.shape[:2])
        # mixed precision would cast each band by itself, and bands overlap
        key = F.normalize(_in_rows(keys), dim=1).to(keys.dtype)
        query = F.normalize(self.query(x).flatten(2), dim=1).transpose(1, 2) * self.temperature
        query = query.to(keys.dtype)
        bands = self.bands.of(grid, cell, grid, cell, count, x.device)
        weights = [(query[:, rows] @ key[:, :, near] + prior).softmax(2) for rows, near, prior in bands]
        return Weights(bands, weights, keys.dtype, count, grid)


@dataclass(frozen=True)
class Weights:
    """The weight of each template's locations, [B,queries,keys] a band; ``dtype``: to multiply in."""

    bands: list[Band]
    weights: list[Tensor]
    dtype: torch.dtype
    count: int
    grid: torch.Size

    def matched(self, templates: Tensor) -> Tensor:  # [B,K,C,H,W] -> [B,C,H,W]
        """The templates' features at the matching locations."""
        values = _in_rows(templates).to(self.dtype)
        found = [
            values[:, :, near] @ weights.to(self.dtype).transpose(1, 2)
            for (_, near, _), weights in zip(self.bands, self.weights, strict=True)
        ]
        return torch.cat(found, 2).unflatten(2, self.grid)

    @property
    def shares(self) -> Tensor:  # [B,K,H,W]
        """How much of the weight each template has."""
        line = (self.count, self.grid[1])
        found = [weights.unflatten(2, (-1, *line)).sum((2, 4)) for weights in self.weights]
        return torch.cat(found, 1).transpose(1, 2).unflatten(2, self.grid)


class Stage(nn.Module):
    """A level of the decoder: takes in the bottleneck, then the template, and gives features.

    Args:
        enters: channels of the level before; None: they are its own already.
        outputs: channels of the level.
        compensated: whether the template is taken in.
    """

    def __init__(self, enters: int | None, width: int, outputs: int, compensated: bool) -> None:
        super().__init__()
        self.enter, self.before = None, None
        if enters is not None:
            self.enter, self.before = conv_norm(enters, width, 1), LeanBlock(width, width)
        self.compensation = nn.Conv2d(outputs, width // 4, 1) if compensated else None
        self.after = LeanBlock(width, width)
        self.head = nn.Conv2d(width, outputs, 1)
        nn.init.zeros_(self.head.weight)  # training begins at what the template shows
        nn.init.zeros_(cast(Tensor, self.head.bias))

    def begun(self, x: Tensor, local: Tensor | None, size: tuple[int, ...] | None) -> Tensor:
        """``x`` [B,D,H,W] of the level before with the bottleneck; ``size``: that of twice the resolution, if
        it is.
        """
        if self.enter is not None:
            x = self.enter(x)
        if size is not None:
            x = doubled(x, size)
        if local is not None:
            x = x + local
        return x if self.before is None else self.before(x)

    def ended(
        self,
        x: Tensor,  # [B,D,H,W]
        matched: Tensor | None,  # [B,C,H,W]
        scale: Scale,
        residual: bool,
    ) -> tuple[Tensor, Tensor]:  # [B,D,H,W] and fp32 [B,C,H,W]
        """``x`` with the template, and the restored features."""
        shown = None
        if self.compensation is not None and matched is not None:
            shown = scale.of_standardised(self.compensation, matched)
        x = self.after(x, shown)
        base = matched if residual and matched is not None else scale.mean
        return x, self.head(x).float() * scale.deviation + base


class LightNetwork(RestorationNetwork):
    """The network of ``decoder: light``."""

    def __init__(self, config: THFRModelConfig, channels: tuple[int, ...]) -> None:
        super().__init__(config, channels)
        strides, bottleneck = config.spec.strides, config.bottleneck_width
        self.fold = strides[1] // strides[0]
        if self.use_global:
            self.globally = LightGlobalBottleneck(config, channels)
        levels = config.compensation_levels if config.uses_templates else ()
        middle, coarse = (max(count, 64) for count in channels[1:])
        self.stages = nn.ModuleList(
            [
                Stage(bottleneck, coarse, channels[2], 3 in levels),
                Stage(coarse, middle, channels[1], 2 in levels),
                Stage(None, middle, channels[0] * self.fold**2, 1 in levels),
            ]
        )
        self.coarse = Relation(coarse, channels[2], config) if 3 in levels else None
        self.fine = Relation(middle, channels[1], config) if {1, 2} & set(levels) else None
        self.locally = nn.ModuleList(
            LightLocalBottleneck(channels[level], config.reduction, width, fold)
            for level, width, fold in ((2, coarse, 1), (1, middle, 1), (0, middle, self.fold))
            if self.use_local
        )
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def restore(self, features: list[Tensor], templates: list[Tensor] | None) -> list[Tensor]:
        strides, residual = self.config.spec.strides, self.config.template_residual
        fine, middle, coarse = self.scales()
        given = [level.contiguous(memory_format=torch.channels_last) for level in features]
        local: list[Tensor | None] = [None, None, None]
        if self.use_local:
            pairs = zip(self.locally, reversed(given), (coarse, middle, fine), strict=True)
            local = [bottleneck(level, scale) for bottleneck, level, scale in pairs]
        x = self.started(features[2]) if self.globally is None else self.globally(given, self.scales())
        third, second, first = (cast(Stage, stage) for stage in self.stages)

        x, matched = third.begun(x, local[0], features[2].shape[2:]), None
        if self.coarse is not None and templates is not None:
            weights = self.coarse(x, templates[2], coarse, strides[2] / 16)
            matched = weights.matched(templates[2])
            if weights.count > 1:
                shares = weights.shares
                templates = [_mixed(level, shares) for level in templates[:2]]
        x, restored_coarse = third.ended(x, matched, coarse, residual)

        size = features[1].shape[2:] if strides[1] < strides[2] else None
        x, matched, finest = second.begun(x, local[1], size), None, None
        if self.fine is not None and templates is not None:
            weights = self.fine(x, templates[1], middle, strides[1] / 16)
            if second.compensation is not None:
                matched = weights.matched(templates[1])
            if first.compensation is not None:
                finest = weights.matched(F.pixel_unshuffle(templates[0], self.fold))
        x, restored_middle = second.ended(x, matched, middle, residual)

        x = first.begun(x, local[2], None)
        _, folded = first.ended(x, finest, fine.folded(self.fold), residual)
        return [F.pixel_shuffle(folded, self.fold), restored_middle, restored_coarse]


def _in_rows(x: Tensor) -> Tensor:  # [B,K,C,H,W] -> [B,C,H*K*W]
    """Rows outermost, so that a band of them is one piece."""
    return x[:, 0].flatten(2) if x.shape[1] == 1 else x.permute(0, 2, 3, 1, 4).flatten(2)


def _mixed(
    templates: Tensor,  # [B,K,C,H,W]
    shares: Tensor,  # [B,K,h,w], of one sum at each location
) -> Tensor:  # [B,1,C,H,W]
    """One template of several."""
    shares = F.interpolate(shares, templates.shape[3:], mode="nearest")
    return (templates * shares[:, :, None]).sum(1, keepdim=True)
