"""Building blocks of the restoration network. Feature maps are [B,C,H,W], kept in channels-last memory."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class ChannelNorm(nn.Module):
    """Layer normalisation over the channels of each location: no statistics over the batch or the image."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        channels_last = x.permute(0, 2, 3, 1)
        normed = F.layer_norm(channels_last, self.weight.shape, self.weight, self.bias)
        return normed.permute(0, 3, 1, 2)


def conv_norm(inputs: int, outputs: int, kernel: int = 3, stride: int = 1) -> nn.Sequential:
    """Convolution, channel norm, ReLU."""
    convolution = nn.Conv2d(inputs, outputs, kernel, stride, padding=kernel // 2, bias=False)
    return nn.Sequential(convolution, ChannelNorm(outputs), nn.ReLU())


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions with a shortcut."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            conv_norm(channels, channels),
            nn.Conv2d(channels, channels, 3, padding=1, bias=False),
            ChannelNorm(channels),
        )

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(x + self.body(x))


class BottleneckBlock(nn.Module):
    """1x1 reduce to a quarter, 3x3, 1x1 expand, with a shortcut; may halve the resolution."""

    def __init__(self, inputs: int, outputs: int, stride: int = 1) -> None:
        super().__init__()
        width = outputs // 4
        self.body = nn.Sequential(
            conv_norm(inputs, width, 1),
            conv_norm(width, width, 3, stride),
            nn.Conv2d(width, outputs, 1, bias=False),
            ChannelNorm(outputs),
        )
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or inputs != outputs:
            self.shortcut = nn.Sequential(
                nn.Conv2d(inputs, outputs, 1, stride, bias=False), ChannelNorm(outputs)
            )

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.shortcut(x) + self.body(x))


class LeanBlock(nn.Module):
    """1x1 reduce to a quarter, 3x3, 1x1 expand, added to a shortcut, with one norm where it is narrow; may
    halve the resolution. What else it shall see is added where it is narrow.
    """

    def __init__(self, inputs: int, outputs: int, stride: int = 1) -> None:
        super().__init__()
        width = outputs // 4
        self.reduce = nn.Conv2d(inputs, width, 1)
        self.body = nn.Sequential(nn.ReLU(), conv_norm(width, width, 3, stride), nn.Conv2d(width, outputs, 1))
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or inputs != outputs:
            self.shortcut = nn.Conv2d(inputs, outputs, 1, stride)

    def forward(
        self,
        x: Tensor,  # [B,inputs,H,W]
        beside: Tensor | None = None,  # [B,outputs/4,H,W]
    ) -> Tensor:  # [B,outputs,H/stride,W/stride]
        narrow = self.reduce(x)
        return self.shortcut(x) + self.body(narrow if beside is None else narrow + beside)


@dataclass(frozen=True)
class Scale:
    """Mean and standard deviation of each channel of a level, [1,C,1,1]."""

    mean: Tensor
    deviation: Tensor

    def of_standardised(self, convolution: nn.Conv2d, x: Tensor) -> Tensor:
        """``convolution((x - mean) / deviation)`` without padding: the scale goes into the weights, so that
        the scaled features are never made.
        """
        weight = convolution.weight / self.deviation
        bias = -(weight * self.mean).sum((1, 2, 3))
        if convolution.bias is not None:
            bias = bias + convolution.bias
        return F.conv2d(x, weight, bias, convolution.stride)

    def folded(self, edge: int) -> Scale:
        """Of the level with squares of ``edge`` x ``edge`` locations folded into channels."""
        times = edge * edge
        return Scale(self.mean.repeat_interleave(times, 1), self.deviation.repeat_interleave(times, 1))
