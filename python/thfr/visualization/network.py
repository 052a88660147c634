"""The visualization network (supplement, section 1.1): from the extractor's features back to an image."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from thfr.methods.common.residual import conv_bn

_NARROWEST, _WIDEST = 64, 256


class UpBlock(nn.Module):
    """ResNet's basic block run backwards: where that halves the resolution in its first convolution, this one
    doubles it before its last.
    """

    def __init__(self, inputs: int, outputs: int, up: bool = True) -> None:
        super().__init__()
        self.before = conv_bn(inputs, outputs)
        self.after = nn.Sequential(
            nn.Conv2d(outputs, outputs, 3, padding=1, bias=False), nn.BatchNorm2d(outputs)
        )
        self.shortcut: nn.Module = nn.Identity()
        if inputs != outputs:
            self.shortcut = nn.Sequential(nn.Conv2d(inputs, outputs, 1, bias=False), nn.BatchNorm2d(outputs))
        self.scale = 2 if up else 1

    def forward(
        self,
        x: Tensor,  # [B,inputs,H,W]
    ) -> Tensor:  # [B,outputs,2H,2W], or [B,outputs,H,W] without `up`
        return F.relu(self._enlarged(self.shortcut(x)) + self.after(self._enlarged(self.before(x))))

    def _enlarged(self, x: Tensor) -> Tensor:
        return x if self.scale == 1 else F.interpolate(x, scale_factor=self.scale, mode="nearest")


class VisualizationNetwork(nn.Module):
    """A reversed ResNet whose down-sampling is replaced by up-sampling.

    It begins at the coarse level, takes in the middle and the fine one where it reaches their resolution, and
    ends in the image. Of the features it sees directions only, which is what scores compare. It stands
    outside of the method: no score depends on it. ``channels`` and ``strides``: of the extractor's three
    levels.
    """

    def __init__(self, channels: tuple[int, ...], strides: tuple[int, ...] = (4, 8, 16)) -> None:
        super().__init__()
        self.stride = strides[0]
        fine, middle, coarse = (min(max(count, _NARROWEST), _WIDEST) for count in channels)
        self.entries = nn.ModuleList(
            nn.Sequential(nn.Conv2d(count, width, 1, bias=False), nn.BatchNorm2d(width))
            for count, width in zip(channels, (fine, middle, coarse), strict=True)
        )
        self.from_coarse = nn.Sequential(
            UpBlock(coarse, coarse, up=False), UpBlock(coarse, middle, up=strides[1] < strides[2])
        )
        self.from_middle = nn.Sequential(
            UpBlock(middle, middle, up=False), UpBlock(middle, fine, up=strides[0] < strides[1])
        )
        more: list[nn.Module] = []  # from a transformer's patches to stride 4
        for _ in range((self.stride - 1).bit_length() - 2):
            more.append(UpBlock(fine, fine // 2))
            fine //= 2
        self.more = nn.Sequential(*more)
        self.from_fine = UpBlock(fine, fine // 2)
        self.stem = UpBlock(fine // 2, fine // 4)  # in place of the first convolution and pooling
        self.head = nn.Conv2d(fine // 4, 3, 3, padding=1)
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def forward(
        self,
        features: list[Tensor],  # three [B,C_l,H_l,W_l]
    ) -> Tensor:  # [B,3,H,W], RGB, 0 to 1 but for what it over- and undershoots
        fine, middle, coarse = (self._entered(feature, level) for level, feature in enumerate(features))
        x = self.from_coarse(F.relu(coarse)) + middle
        x = self.from_middle(F.relu(x)) + fine
        x = self.stem(self.from_fine(self.more(F.relu(x))))
        size = tuple(edge * self.stride for edge in fine.shape[2:])
        if x.shape[2:] != size:  # patches whose edge is no power of two
            x = F.interpolate(x, size, mode="bilinear", align_corners=False)
        return self.head(x).float() + 0.5

    def _entered(self, feature: Tensor, level: int) -> Tensor:
        """A level, scaled to one length at each location: restoration is trained by cosine distance, so that
        the length of what it restores means nothing.
        """
        scaled = F.normalize(feature.float(), dim=1) * feature.shape[1] ** 0.5
        return self.entries[level](scaled.contiguous(memory_format=torch.channels_last))
