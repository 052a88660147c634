"""The two bottlenecks (supplement, section 3.3): the global one filters anomalies, the local one keeps
detail.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from thfr.methods.thfr.layers import BottleneckBlock, ChannelNorm, conv_norm


class GlobalBottleneck(nn.Module):
    """All three levels brought to stride 16, joined, and pressed through residual blocks at ``stride``.

    The result is at stride 32; a bottleneck of fewer cells is brought back there by transposed convolutions.
    """

    def __init__(self, channels: tuple[int, int, int], width: int, blocks: int, stride: int) -> None:
        super().__init__()
        fine, middle, coarse = channels
        self.fine = nn.Sequential(
            conv_norm(fine, 2 * fine, stride=2), conv_norm(2 * fine, 4 * fine, stride=2)
        )
        self.middle = conv_norm(middle, 2 * middle, stride=2)
        joined = 4 * fine + 2 * middle + coarse
        halvings = (stride // 32).bit_length() - 1
        layers: list[nn.Module] = [BottleneckBlock(joined, width, stride=2)]
        layers += [BottleneckBlock(width, width, stride=2) for _ in range(halvings)]
        layers += [BottleneckBlock(width, width) for _ in range(blocks - 1)]
        for _ in range(halvings):
            layers += [nn.ConvTranspose2d(width, width, 2, 2, bias=False), ChannelNorm(width), nn.ReLU()]
        self.blocks = nn.Sequential(*layers)

    def forward(self, features: list[Tensor]) -> Tensor:
        fine, middle, coarse = features
        return self.blocks(torch.cat([self.fine(fine), self.middle(middle), coarse], dim=1))


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
