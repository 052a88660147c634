"""What methods share whose networks regress a frozen teacher's descriptors from the image: the teacher's
standardised levels, the networks, and maps brought to one scale on good images.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn


class _Statistics(nn.Module):
    """Mean and standard deviation of ``count`` numbers."""

    mean: Tensor
    deviation: Tensor

    def __init__(self, count: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(count))
        self.register_buffer("deviation", torch.ones(count))


class Standardiser(_Statistics):
    """Each channel of a level minus its mean, by its standard deviation over the training images."""

    def set_statistics(self, mean: Tensor, deviation: Tensor) -> None:  # [C] each
        """A channel that never changes (a dead ReLU) keeps the smallest deviation there is, not 0."""
        positive = deviation[deviation > 0]
        floor = float(positive.min()) if len(positive) else 1.0
        self.mean.copy_(mean)
        self.deviation.copy_(deviation.clamp_min(floor))

    def forward(self, level: Tensor) -> Tensor:  # [B,C,h,w]
        return (level - self.mean.view(-1, 1, 1)) / self.deviation.view(-1, 1, 1)


class MapScale(_Statistics):
    """Brings error maps to one scale: minus mean, by standard deviation of all locations of good images."""

    def fit(self, batches: Sequence[Sequence[Tensor]]) -> None:
        """``batches``: of each batch of good images all its maps, each [B,h,w]."""
        for index in range(len(self.mean)):
            values = torch.cat([maps[index].flatten().double() for maps in batches])
            self.mean[index] = values.mean()
            self.deviation[index] = values.std(correction=0).clamp_min(1e-12)

    def forward(self, maps: Sequence[Tensor]) -> list[Tensor]:
        return [
            (single - mean) / deviation
            for single, mean, deviation in zip(maps, self.mean, self.deviation, strict=True)
        ]


def conv(inputs: int, outputs: int, kernel: int = 3, stride: int = 1) -> nn.Sequential:
    """Convolution, batch norm, and the papers' leaky ReLU."""
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, bias=False),
        nn.BatchNorm2d(outputs),
        nn.LeakyReLU(5e-3, inplace=True),
    )


def trunk_index(stride: int) -> int:
    """Which of a trunk's maps has this stride, a power of two."""
    return stride.bit_length() - 2


class Trunk(nn.Module):
    """Strided 5x5 convolutions: maps at strides 2, 4, 8, ..., each with twice the channels, up to 8 times
    ``width``.
    """

    def __init__(self, width: int, depth: int) -> None:
        super().__init__()
        self.channels = tuple(width * min(2**index, 8) for index in range(depth))
        self.layers = nn.ModuleList(
            conv(inputs, outputs, kernel=5, stride=2)
            for inputs, outputs in zip((3, *self.channels), self.channels, strict=False)
        )

    def forward(self, images: Tensor) -> list[Tensor]:  # [B,3,H,W] -> [B,C_i,H/2^i,W/2^i] for i = 1, 2, ...
        maps, x = [], images.contiguous(memory_format=torch.channels_last)
        for layer in self.layers:
            x = layer(x)
            maps.append(x)
        return maps
