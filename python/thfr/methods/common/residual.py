"""Residual blocks with batch norm that keep, halve or double the resolution. Maps are [B,C,H,W]."""

from __future__ import annotations

from typing import Literal

from torch import Tensor, nn
from torch.nn import functional as F

BlockKind = Literal["basic", "bottleneck"]
Resampling = Literal["none", "down", "up"]


def _resample(inputs: int, outputs: int, kernel: int, resampling: Resampling) -> nn.Module:
    """A convolution that changes the resolution; up: a transposed one of kernel 2, whose cells do not
    overlap.
    """
    if resampling == "up":
        return nn.ConvTranspose2d(inputs, outputs, 2, stride=2, bias=False)
    stride = 2 if resampling == "down" else 1
    return nn.Conv2d(inputs, outputs, kernel, stride, padding=kernel // 2, bias=False)


def conv_bn(inputs: int, outputs: int, kernel: int = 3, resampling: Resampling = "none") -> nn.Sequential:
    """Convolution, batch norm, ReLU."""
    layer = _resample(inputs, outputs, kernel, resampling)
    return nn.Sequential(layer, nn.BatchNorm2d(outputs), nn.ReLU(inplace=True))


class ResampledBlock(nn.Module):
    """ResNet's block (He et al., CVPR 2016): *basic* is two 3x3 convolutions, *bottleneck* 1x1, 3x3, 1x1 with
    half the channels in between, as in Wide ResNet-50-2.

    ``rectified=False`` leaves the last ReLU out, for outputs that may be negative.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        kind: BlockKind,
        resampling: Resampling = "none",
        rectified: bool = True,
    ) -> None:
        super().__init__()
        self.rectified = rectified
        if kind == "basic":
            layers = [
                conv_bn(inputs, outputs, 3, resampling),
                nn.Conv2d(outputs, outputs, 3, padding=1, bias=False),
            ]
        else:
            width = outputs // 2
            layers = [
                conv_bn(inputs, width, 1),
                conv_bn(width, width, 3, resampling),
                nn.Conv2d(width, outputs, 1, bias=False),
            ]
        self.body = nn.Sequential(*layers, nn.BatchNorm2d(outputs))
        self.shortcut: nn.Module = nn.Identity()
        if resampling != "none" or inputs != outputs:
            self.shortcut = nn.Sequential(_resample(inputs, outputs, 1, resampling), nn.BatchNorm2d(outputs))

    def forward(self, x: Tensor) -> Tensor:
        summed = self.shortcut(x) + self.body(x)
        return F.relu(summed, inplace=True) if self.rectified else summed
