"""The two bottlenecks (supplement, section 3.3): the global one filters anomalies, the local one keeps
detail.
"""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn

from thfr.methods.common.resolution import cut
from thfr.methods.thfr.config import THFRModelConfig
from thfr.methods.thfr.layers import BottleneckBlock, ChannelNorm, LeanBlock, Scale, conv_norm


class GlobalBottleneck(nn.Module):
    """All three levels brought to the resolution of the coarse one, joined, and pressed through residual
    blocks.

    The result has half that resolution, rounded up: stride 32 behind a pyramid. A bottleneck of fewer cells
    is brought back there by transposed convolutions.
    """

    def __init__(self, config: THFRModelConfig, channels: tuple[int, ...]) -> None:
        super().__init__()
        strides = config.spec.strides
        fine, middle = ((strides[2] // own).bit_length() - 1 for own in strides[:2])  # halvings
        self.fine = _halved(channels[0], fine)
        self.middle = _halved(channels[1], middle)
        joined = (channels[0] << fine) + (channels[1] << middle) + channels[2]
        self.blocks = _squeeze(BottleneckBlock, joined, config)

    def forward(self, features: list[Tensor]) -> Tensor:
        fine, middle, coarse = features
        return _pressed(self.blocks, [self.fine(fine), self.middle(middle), coarse])


class LightGlobalBottleneck(nn.Module):
    """The global bottleneck with each level brought to the coarse resolution by one convolution whose squares
    do not overlap, to half of the coarse level's channels, and leaner blocks.
    """

    def __init__(self, config: THFRModelConfig, channels: tuple[int, ...]) -> None:
        super().__init__()
        strides = config.spec.strides
        share = channels[2] // 2
        edges = [strides[2] // own for own in strides]
        self.joins = nn.ModuleList(
            nn.Conv2d(count, share, edge, edge) for count, edge in zip(channels, edges, strict=True)
        )
        self.blocks = _squeeze(LeanBlock, 3 * share, config)

    def forward(self, features: list[Tensor], scales: list[Scale]) -> Tensor:
        given = zip(self.joins, features, scales, strict=True)
        joined = [scale.of_standardised(cast(nn.Conv2d, join), feature) for join, feature, scale in given]
        return _pressed(self.blocks, joined)


def _squeeze(
    block: type[BottleneckBlock] | type[LeanBlock], inputs: int, config: THFRModelConfig
) -> nn.Sequential:
    """Blocks at ``config.global_stride`` (where the coarse level is at 16), and the way back to 32."""
    width, halvings = config.bottleneck_width, (config.global_stride // 32).bit_length() - 1
    layers: list[nn.Module] = [block(inputs, width, stride=2)]
    layers += [block(width, width, stride=2) for _ in range(halvings)]
    layers += [block(width, width) for _ in range(config.global_blocks - 1)]
    for _ in range(halvings):
        layers += [nn.ConvTranspose2d(width, width, 2, 2, bias=False), ChannelNorm(width), nn.ReLU()]
    return nn.Sequential(*layers)


def _pressed(blocks: nn.Module, joined: list[Tensor]) -> Tensor:
    """Joined levels, all at the coarse resolution, at half of it."""
    x = blocks(torch.cat(joined, dim=1))
    return cut(x, tuple(-(-edge // 2) for edge in joined[-1].shape[2:]))


def _halved(channels: int, times: int) -> nn.Module:
    """Convolutions that halve the resolution and double the channels."""
    layers = [conv_norm(channels << time, channels << (time + 1), stride=2) for time in range(times)]
    return layers[0] if times == 1 else nn.Sequential(*layers)


class LocalBottleneck(nn.Module):
    """One level through very few channels: 1x1 reduce, 3x3, 1x1 expand."""

    def __init__(self, channels: int, reduction: int, outputs: int) -> None:
        super().__init__()
        narrow = max(channels // reduction, 2)
        self.body = nn.Sequential(
            nn.Conv2d(channels, narrow, 1, bias=False),
            ChannelNorm(narrow),
            nn.Conv2d(narrow, narrow, 3, padding=1, bias=False),
            ChannelNorm(narrow),
            nn.ReLU(),
            nn.Conv2d(narrow, outputs, 1),
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.body(x)


class LightLocalBottleneck(nn.Module):
    """As :class:`LocalBottleneck` with one norm; squares of ``fold`` x ``fold`` locations come out as one."""

    def __init__(self, channels: int, reduction: int, outputs: int, fold: int = 1) -> None:
        super().__init__()
        narrow = max(channels // reduction, 2)
        self.reduce = nn.Conv2d(channels, narrow, 1)
        self.body = nn.Sequential(
            conv_norm(narrow, narrow), nn.PixelUnshuffle(fold), nn.Conv2d(narrow * fold**2, outputs, 1)
        )

    def forward(self, x: Tensor, scale: Scale) -> Tensor:
        return self.body(scale.of_standardised(self.reduce, x))
