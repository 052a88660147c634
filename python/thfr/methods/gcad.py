"""GCAD: Bergmann, Batzner, Fauser, Sattlegger and Steger, Beyond Dents and Scratches: Logical Constraints in
Unsupervised Anomaly Detection and Localization, IJCV 2022.

Two branches. Local: a network regresses a pretrained encoder's descriptors. Global: an encoder with a
bottleneck of a few numbers is distilled from the same descriptors, and a second network without any
bottleneck regresses *its* output. A structural defect breaks the first regression; an image whose parts are
each normal but do not belong together makes the global encoder say something else than the second network,
which judges by what a location looks like. Both errors are standardised on good images and summed over the
scales.

Deviations from the paper, whose code and layer tables are not public:
- The pretrained encoder is the frozen backbone itself, not patch CNNs of receptive fields of 17 and 33 pixels
  distilled on ImageNet, which is not at hand; its levels at strides 8 and 16 are the two scales.
- The networks' layers are our own: strided 5x5 convolutions down to stride 32, up-sampling and 3x3
  convolutions, with skip connections in the regression networks and without in the global encoder. There
  is one descriptor a cell of the level, not one a pixel. Batch norm behind the convolutions and batches of 8
  with ten times the learning rate make the training converge in a fraction of the steps.
- All networks are trained together on the sum of the three losses; the global regression does not push its
  target.
- Error maps are standardised on a share of the training images that is not learnt from, and the sum is
  smoothed (sigma 4 pixels) as the maps of every method here.
"""

from __future__ import annotations

import math
from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import convert_conv2d_weight_memory_format

from thfr.backbones import FeatureExtractor
from thfr.methods.common.regression import Trunk, conv, trunk_index
from thfr.methods.common.regression_detector import (
    RegressionConfig,
    RegressionDetector,
    RegressionModelConfig,
    RegressionNetwork,
    RegressionTrainingConfig,
)
from thfr.methods.common.resolution import doubled
from thfr.methods.registry import register_method

_DEPTH = 5  # the networks go down to stride 2^5


class GCADModelConfig(RegressionModelConfig):
    """Both branches."""

    levels: tuple[Literal[1, 2, 3], ...] = (2, 3)
    width: int = Field(default=64, ge=4)
    """Channels of every network at stride 2; each stride has twice as many, up to 8 times."""
    bottleneck: int = Field(default=32, ge=1)
    """Numbers that the global encoder says about an image."""
    descriptor: int = Field(default=10, ge=1)
    """Channels of the global encoder's output."""


class GCADTrainingConfig(RegressionTrainingConfig):
    """How all networks are fitted, together."""

    epochs: int = Field(default=500, ge=1)


class GCADConfig(RegressionConfig):
    """A run of GCAD."""

    title: ClassVar[str] = "GCAD"
    paper: ClassVar[str] = (
        "Bergmann et al., Beyond Dents and Scratches: Logical Constraints in Unsupervised Anomaly Detection "
        "and Localization, IJCV 2022"
    )

    method: Literal["gcad"] = "gcad"
    model: GCADModelConfig = GCADModelConfig()
    training: GCADTrainingConfig = GCADTrainingConfig()


class UNet(nn.Module):
    """A regression network: its skip connections reproduce any detail, and no bottleneck ties a location
    to the rest of the image.
    """

    def __init__(self, outputs: int, stride: int, width: int) -> None:
        super().__init__()
        self.trunk = Trunk(width, _DEPTH)
        widths, last = self.trunk.channels, trunk_index(stride)
        self.up = nn.ModuleList(
            conv(widths[index + 1] + widths[index], widths[index])
            for index in range(_DEPTH - 2, last - 1, -1)
        )
        self.head = nn.Sequential(conv(widths[last], widths[last]), nn.Conv2d(widths[last], outputs, 1))

    def forward(self, images: Tensor) -> Tensor:  # [B,3,H,W] -> [B,outputs,H/stride,W/stride]
        *skips, x = self.trunk(images)
        for layer in self.up:
            skip = skips.pop()
            x = layer(torch.cat([doubled(x, skip.shape[2:]), skip], 1))
        descriptors: Tensor = self.head(x)
        return descriptors


class GlobalEncoder(nn.Module):
    """The image through ``bottleneck`` numbers to a map: what does not follow from a few numbers about the
    whole image cannot be in it.
    """

    def __init__(self, outputs: int, stride: int, width: int, bottleneck: int, size: tuple[int, int]) -> None:
        super().__init__()
        self.trunk = Trunk(width, _DEPTH)
        widths, last = self.trunk.channels, trunk_index(stride)
        self.cells = (-(-size[0] // 2**_DEPTH), -(-size[1] // 2**_DEPTH))
        self.squeeze = nn.Conv2d(widths[-1], bottleneck, self.cells)
        self.expand = nn.Linear(bottleneck, widths[-1] * math.prod(self.cells))
        self.activate = nn.Sequential(nn.BatchNorm2d(widths[-1]), nn.LeakyReLU(5e-3, inplace=True))
        self.up = nn.ModuleList(
            conv(widths[index + 1], widths[index]) for index in range(_DEPTH - 2, last - 1, -1)
        )
        self.head = nn.Conv2d(widths[last], outputs, 1)

    def squeezed(self, images: Tensor) -> Tensor:  # [B,3,H,W] -> [B,bottleneck]
        """The few numbers."""
        numbers: Tensor = self.squeeze(self.trunk(images)[-1])
        return numbers.flatten(1)

    def forward(self, images: Tensor) -> Tensor:  # [B,3,H,W] -> [B,outputs,H/stride,W/stride]
        x = self.activate(self.expand(self.squeezed(images)).unflatten(1, (-1, *self.cells)))
        for index, layer in enumerate(self.up):
            cell = 2 ** (_DEPTH - 1 - index)
            x = layer(doubled(x, tuple(-(-edge // cell) for edge in images.shape[2:])))
        descriptors: Tensor = self.head(x)
        return descriptors


class Branches(nn.Module):
    """Both branches at one scale, a level of C channels; ``target`` is that level, standardised."""

    def __init__(self, channels: int, stride: int, model: GCADModelConfig) -> None:
        super().__init__()
        self.local_regression = UNet(channels, stride, model.width)
        self.encoder = GlobalEncoder(
            model.descriptor, stride, model.width, model.bottleneck, model.network_size
        )
        self.lift = nn.Conv2d(model.descriptor, channels, 1)
        self.global_regression = UNet(model.descriptor, stride, model.width)
        convert_conv2d_weight_memory_format(self, torch.channels_last)

    def losses(self, images: Tensor, target: Tensor) -> dict[str, Tensor]:
        """Local regression; distillation of the target into the global encoder; global regression."""
        encoded = self.encoder(images)
        return {
            "local": F.mse_loss(self.local_regression(images).float(), target),
            "distillation": F.mse_loss(self.lift(encoded).float(), target),
            "global": F.mse_loss(self.global_regression(images).float(), encoded.detach().float()),
        }

    def errors(self, images: Tensor, target: Tensor) -> list[Tensor]:
        """Squared errors of the local and of the global regression, [B,h,w] each."""
        local = self.local_regression(images).float() - target
        of_global = self.global_regression(images).float() - self.encoder(images).float()
        return [local.square().sum(1), of_global.square().sum(1)]


class GCADNetwork(RegressionNetwork):
    """Both branches at all scales."""

    def __init__(self, model: GCADModelConfig, channels: tuple[int, ...]) -> None:
        super().__init__(model.levels, channels, 2 * len(model.levels))
        self.branches = nn.ModuleList(
            Branches(count, stride, model)
            for stride, count in zip(model.level_strides, self.channels, strict=True)
        )

    def losses(self, images: Tensor, features: list[Tensor]) -> dict[str, Tensor]:
        parts: dict[str, Tensor] = {}
        for level, both, target in zip(self.levels, self.branches, self.targets(features), strict=True):
            assert isinstance(both, Branches)
            parts |= {f"{name}{level}": loss for name, loss in both.losses(images, target).items()}
        return parts

    def errors(self, images: Tensor, features: list[Tensor]) -> list[Tensor]:
        maps = []
        for both, target in zip(self.branches, self.targets(features), strict=True):
            assert isinstance(both, Branches)
            maps += both.errors(images, target)
        return maps


@register_method("gcad", GCADConfig)
class GCADDetector(RegressionDetector):
    """Pretrained encoder and both branches."""

    @staticmethod
    def make_network(config: GCADConfig, extractor: FeatureExtractor) -> GCADNetwork:
        return GCADNetwork(config.model, extractor.channels)
