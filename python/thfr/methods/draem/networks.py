"""The two networks of DRAEM (Zavrtanik et al., ICCV 2021, section 3): an auto-encoder that restores the image
as it was without the anomaly, and a U-Net that tells where image and restoration differ in a way that counts.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from thfr.methods.common.residual import conv_bn

RECONSTRUCTION_WIDTHS = (1, 2, 4, 8, 8)
DISCRIMINATION_WIDTHS = (1, 2, 4, 8, 8, 8)
"""Channels of the encoder's stages, in multiples of the base width; each stage halves the edge."""
MULTIPLE = 2 ** (len(DISCRIMINATION_WIDTHS) - 1)
"""What the edges of the networks' input must be multiples of, in pixels."""


class UShaped(nn.Module):
    """An encoder and a decoder of 3 x 3 convolutions, with or without connections between their stages."""

    def __init__(self, inputs: int, outputs: int, base: int, multiples: Sequence[int], skips: bool) -> None:
        super().__init__()
        widths = [base * multiple for multiple in multiples]
        self.skips = skips
        self.encoder = nn.ModuleList(
            _block(given, width) for given, width in zip([inputs, *widths], widths, strict=False)
        )
        self.up = nn.ModuleList()
        self.decoder = nn.ModuleList()
        below = widths[-1]
        for width in reversed(widths[:-1]):
            self.up.append(conv_bn(below, width))
            self.decoder.append(_block(2 * width if skips else width, width))
            below = width
        self.head = nn.Conv2d(below, outputs, 3, padding=1)

    def forward(
        self,
        images: Tensor,  # [B,inputs,H,W], edges multiples of 2 ** (stages - 1)
    ) -> Tensor:  # [B,outputs,H,W]
        stages: list[Tensor] = []
        level = images
        for number, block in enumerate(self.encoder):
            level = block(F.max_pool2d(level, 2) if number else level)
            stages.append(level)
        for up, block, stage in zip(self.up, self.decoder, reversed(stages[:-1]), strict=True):
            level = up(F.interpolate(level, scale_factor=2, mode="bilinear", align_corners=False))
            level = block(torch.cat([level, stage], dim=1) if self.skips else level)
        return self.head(level)


class DRAEMNetwork(nn.Module):
    """Image -> restoration -> (image, restoration) -> normal or anomalous, for every pixel."""

    def __init__(self, reconstruction_width: int, discrimination_width: int) -> None:
        super().__init__()
        self.reconstruction = UShaped(3, 3, reconstruction_width, RECONSTRUCTION_WIDTHS, skips=False)
        self.discrimination = UShaped(6, 2, discrimination_width, DISCRIMINATION_WIDTHS, skips=True)

    def forward(
        self,
        images: Tensor,  # [B,3,H,W] in [0,1], edges multiples of MULTIPLE
    ) -> tuple[Tensor, Tensor]:  # [B,3,H,W] and logits [B,2,H,W]: normal, anomalous
        restored = self.reconstruction(images)
        return restored, self.discrimination(torch.cat([restored, images], dim=1))


def _block(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(conv_bn(inputs, outputs), conv_bn(outputs, outputs))
