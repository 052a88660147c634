"""One factory for the frozen feature extractors: three levels, at strides 4, 8 and 16."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from thfr.backbones._torchvision_guard import guard_torchvision
from thfr.backbones.weights import (
    lite0_names,
    lite0_package_file,
    load_strictly,
    read_weights,
    weights_digest,
)
from thfr.errors import InputError

STRIDES = (4, 8, 16)


@dataclass(frozen=True)
class BackboneSpec:
    """What distinguishes one backbone from another."""

    architecture: str  # timm's model name
    pretrained: str  # timm's name of the pretrained weights
    levels: tuple[int, int, int]  # timm's feature indices at strides 4, 8 and 16
    mean: tuple[float, float, float]  # of RGB in 0..1
    std: tuple[float, float, float]
    left_over: tuple[str, ...]  # parts of a full checkpoint that an extractor does not have
    bottleneck_channels: int  # default width of the bottleneck behind it
    stages: int | None = (
        None  # leading stages of ``blocks`` to keep, where timm would also run those behind stride 16
    )
    packaged: Callable[[], Path] | None = None  # weights carried by an installed package
    rename: Callable[[Mapping[str, Tensor]], dict[str, Tensor]] = dict


_IMAGENET_MEAN, _IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)

BACKBONES: dict[str, BackboneSpec] = {
    "wide_resnet50_2": BackboneSpec(
        architecture="wide_resnet50_2",
        pretrained="wide_resnet50_2.tv_in1k",
        levels=(1, 2, 3),
        mean=_IMAGENET_MEAN,
        std=_IMAGENET_STD,
        left_over=("layer4.", "fc."),
        bottleneck_channels=2048,
    ),
    "resnet18": BackboneSpec(
        architecture="resnet18",
        pretrained="resnet18.tv_in1k",
        levels=(1, 2, 3),
        mean=_IMAGENET_MEAN,
        std=_IMAGENET_STD,
        left_over=("layer4.", "fc."),
        bottleneck_channels=512,
    ),
    "tf_efficientnet_lite0": BackboneSpec(
        architecture="tf_efficientnet_lite0",
        pretrained="tf_efficientnet_lite0.in1k",
        levels=(1, 2, 3),
        # its authors feed (x * 255 - 127) / 128
        mean=(127 / 255, 127 / 255, 127 / 255),
        std=(128 / 255, 128 / 255, 128 / 255),
        left_over=("blocks.5.", "blocks.6.", "conv_head.", "bn2.", "classifier."),
        bottleneck_channels=512,
        stages=5,
        packaged=lite0_package_file,
        rename=lite0_names,
    ),
}


class FeatureExtractor(nn.Module):
    """A frozen ImageNet network that returns three feature levels.

    Attributes: ``name``; ``channels`` and ``strides`` of the three levels; ``weights_digest``, the SHA-256 of
    the weights in use (None before they are settled).
    """

    mean: Tensor
    std: Tensor

    def __init__(self, name: str, body: nn.Module, spec: BackboneSpec) -> None:
        super().__init__()
        self.name = name
        self.body = body
        info: Any = body.feature_info
        self.channels: tuple[int, int, int] = tuple(info.channels())  # type: ignore[assignment]
        self.strides: tuple[int, int, int] = tuple(info.reduction())  # type: ignore[assignment]
        if self.strides != STRIDES:
            raise RuntimeError(
                f"backbone {name}: expected levels at strides {STRIDES}, timm gives {self.strides}"
            )
        self.register_buffer("mean", torch.tensor(spec.mean).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(spec.std).view(1, 3, 1, 1), persistent=False)
        self.weights_digest: str | None = None
        self.requires_grad_(False)
        super().train(False)

    def train(self, mode: bool = True) -> FeatureExtractor:
        """Stay in evaluation mode: batch statistics would replace the frozen ones."""
        return self

    def normalise(self, images: Tensor) -> Tensor:
        """Images [B,3,H,W], RGB in 0..1, as this backbone was trained to see them."""
        return (images - self.mean) / self.std

    def forward(
        self,
        images: Tensor,  # [B,3,H,W] RGB in 0..1
    ) -> list[Tensor]:
        """Features [B,C_l,ceil(H/s_l),ceil(W/s_l)] for strides s = 4, 8, 16."""
        return list(self.body(self.normalise(images)))


def backbone_spec(name: str) -> BackboneSpec:
    """The facts about one backbone; InputError lists the names there are."""
    if name not in BACKBONES:
        raise InputError(f"backbone: expected one of {', '.join(sorted(BACKBONES))}, got {name!r}")
    return BACKBONES[name]


def create_backbone(
    name: str, weights: Path | str | None = None, pretrained: bool = True
) -> FeatureExtractor:
    """Build a frozen three-level extractor.

    ``weights``: a ``.safetensors``, ``.pth`` or ``.pt`` file, read strictly. Without it, ``pretrained=True``
    takes the weights that an installed package carries (EfficientNet-Lite0) or lets timm fetch them from its
    hub;
    ``pretrained=False`` gives random weights (from torch's global generator), for tests only.

    Raises InputError for an unknown name, a file that does not fit, or weights that cannot be fetched.
    """
    spec = backbone_spec(name)
    if weights is None and pretrained and spec.packaged is not None:
        weights = spec.packaged()
    if weights is not None:
        body = _create_body(spec.architecture, spec, pretrained=False)
        load_strictly(body, spec.rename(read_weights(Path(weights))), spec.left_over, str(weights))
    elif pretrained:
        body = _fetch_body(name, spec)
    else:
        body = _create_body(spec.architecture, spec, pretrained=False)
    extractor = FeatureExtractor(name, body, spec)
    extractor.weights_digest = weights_digest(extractor)
    return extractor


def _create_body(architecture: str, spec: BackboneSpec, pretrained: bool) -> nn.Module:
    guard_torchvision()
    import timm  # after the guard

    body: nn.Module = timm.create_model(
        architecture, pretrained=pretrained, features_only=True, out_indices=spec.levels
    )
    if spec.stages is not None:
        body.blocks = body.blocks[: spec.stages]  # type: ignore[index]
    return body


def _fetch_body(name: str, spec: BackboneSpec) -> nn.Module:
    try:
        return _create_body(spec.pretrained, spec, pretrained=True)
    except Exception as error:  # the hub client raises its own, httpx's and OS errors
        raise InputError(
            f"backbone {name}: the pretrained weights {spec.pretrained} could not be fetched from timm's hub "
            f"({type(error).__name__}: {error}). Give them as a file: --weights FILE "
            "(.safetensors or .pth with timm's or torchvision's names)"
        ) from error
