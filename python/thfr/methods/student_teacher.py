"""Student-teacher: Bergmann, Fauser, Sattlegger and Steger, Uninformed Students: Student-Teacher Anomaly
Detection with Discriminative Latent Embeddings, CVPR 2020.

An ensemble of randomly initialised patch CNNs regresses a pretrained teacher's standardised descriptors on
good images only. Where the image is not good the students fail to, and fail differently: the map is the
regression error of their mean plus their predictive uncertainty, each standardised on good images.

Deviations from the paper:
- Its teachers are patch CNNs distilled from a ResNet-18 on ImageNet, of receptive fields of 17, 33 and 65
  pixels. There is no ImageNet here: the teacher is the frozen backbone itself, its levels at strides 4, 8 and
  16 being dense descriptors of growing receptive fields (43, 99 and 211 pixels in ResNet-18).
- A student is one network with a head a level (45, 93 and 189 pixels), not three networks, and its strided
  convolutions give one descriptor a cell of the teacher's level, not one a pixel.
- Batch norm behind every convolution and batches of 8 with ten times the learning rate, instead of neither
  and single images: the regression converges in a fraction of the steps.
- A transformer's levels have one stride, so a student's heads for them one receptive field; where that is no
  power of two (patches of 14 pixels), the students see the image enlarged until theirs fits.
- The maps of the levels are summed instead of averaged, which only scales them, and smoothed (sigma 4 pixels)
  as those of every method here.
- Error and uncertainty are standardised on a share of the training images that is not learnt from.
"""

from __future__ import annotations

from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
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
from thfr.methods.registry import register_method


class StudentTeacherModelConfig(RegressionModelConfig):
    """The students."""

    students: int = Field(default=3, ge=2)
    """Members of the ensemble, M in the paper."""
    width: int = Field(default=64, ge=4)
    """Channels of a student at stride 2; each stride has twice as many, up to 8 times."""


class StudentTeacherTrainingConfig(RegressionTrainingConfig):
    """How the students are fitted: by default as in section 4."""

    epochs: int = Field(default=100, ge=1)


class StudentTeacherConfig(RegressionConfig):
    """A run of the student-teacher method."""

    title: ClassVar[str] = "S-T"
    paper: ClassVar[str] = (
        "Bergmann et al., Uninformed Students: Student-Teacher Anomaly Detection with Discriminative Latent "
        "Embeddings, CVPR 2020"
    )

    method: Literal["student_teacher"] = "student_teacher"
    model: StudentTeacherModelConfig = StudentTeacherModelConfig()
    training: StudentTeacherTrainingConfig = StudentTeacherTrainingConfig()


class PatchStudent(nn.Module):
    """A dense patch CNN: a trunk of strided convolutions, and at each level two 5x5 convolutions and a linear
    1x1 one. ``strides``: of the levels, powers of two; ``channels``: that it gives of them.
    """

    def __init__(self, strides: tuple[int, ...], channels: tuple[int, ...], width: int) -> None:
        super().__init__()
        self.indices = tuple(trunk_index(stride) for stride in strides)
        self.trunk = Trunk(width, max(self.indices) + 1)
        self.heads = nn.ModuleList(
            _head(self.trunk.channels[index], outputs)
            for index, outputs in zip(self.indices, channels, strict=True)
        )
        convert_conv2d_weight_memory_format(self, torch.channels_last)

    def forward(self, images: Tensor) -> list[Tensor]:  # [B,3,H,W] -> [B,C_l,H/s_l,W/s_l]
        maps = self.trunk(images)
        return [head(maps[index]) for index, head in zip(self.indices, self.heads, strict=True)]


def _head(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(
        conv(inputs, inputs, kernel=5), conv(inputs, inputs, kernel=5), nn.Conv2d(inputs, outputs, 1)
    )


class Ensemble(RegressionNetwork):
    """The students."""

    def __init__(self, model: StudentTeacherModelConfig, channels: tuple[int, ...]) -> None:
        super().__init__(model.levels, channels, 2 * len(model.levels))
        self.students = nn.ModuleList(
            PatchStudent(model.level_strides, self.channels, model.width) for _ in range(model.students)
        )

    def losses(self, images: Tensor, features: list[Tensor]) -> dict[str, Tensor]:
        """Of each level the mean squared error, summed over the students (equation 4; their gradients do not
        mix).
        """
        outputs = [student(images) for student in self.students]
        return {
            f"level{level}": torch.stack(
                [(given[index].float() - wanted).square().mean() for given in outputs]
            ).sum()
            for index, (level, wanted) in enumerate(zip(self.levels, self.targets(features), strict=True))
        }

    def errors(self, images: Tensor, features: list[Tensor]) -> list[Tensor]:
        """Of each level the regression error of the students' mean (equation 5), then of each the predictive
        uncertainty (equation 6): [B,h,w] each, as yet on scales of their own.
        """
        outputs = [student(images) for student in self.students]
        error, uncertainty = [], []
        for index, wanted in enumerate(self.targets(features)):
            guesses = torch.stack([given[index].float() for given in outputs])  # [M,B,C,h,w]
            mean = guesses.mean(0)
            error.append((wanted - mean).square().sum(1))
            uncertainty.append((guesses - mean).square().sum(2).mean(0))
        return [*error, *uncertainty]


@register_method("student_teacher", StudentTeacherConfig)
class StudentTeacherDetector(RegressionDetector):
    """Teacher and students."""

    @staticmethod
    def make_network(config: StudentTeacherConfig, extractor: FeatureExtractor) -> Ensemble:
        return Ensemble(config.model, extractor.channels)
