"""The data of a backbone that is not listed, asked from timm."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from typing import Any

import torch
from torch import nn

from thfr.backbones.definition import STRIDES, BackboneSpec, transformer
from thfr.backbones.torchvision_guard import guard_torchvision
from thfr.errors import InputError

_OPTIONS = (("dynamic_img_size",), ())
"""Keywords to try, by which models take inputs of another size than their own."""


def timm_spec(name: str, listed: Mapping[str, BackboneSpec]) -> BackboneSpec:
    """The data of timm's model ``name``, which may end in a tag of pretrained weights (``model.tag``).

    Raises:
        InputError: timm has no such model or tag, or its levels do not suit.
    """
    guard_torchvision()
    import timm  # after the guard

    architecture = name.partition(".")[0]
    if not timm.is_model(architecture):
        near = difflib.get_close_matches(name, [*listed, *timm.list_models()], 3, 0.5)
        meant = f"; did you mean {' or '.join(near)}?" if near else ""
        raise InputError(
            f"backbone: expected one of {', '.join(sorted(listed))}, or another of timm's models, "
            f"got {name!r}{meant}"
        )
    try:
        data = timm.get_pretrained_cfg(name)
    except RuntimeError as error:  # of an unknown tag
        raise InputError(f"backbone: {name}: {error}") from error
    spec = listed.get(architecture) or _measured(architecture)
    if data is None:  # timm has no weights for it
        return spec
    own = name if "." in name else f"{architecture}.{data.tag}" if data.tag else architecture
    size = spec.size if architecture in listed else spec.nearest_sizes(data.input_size[-1])[0]
    mean, std = ((one[0], one[1], one[2]) for one in (data.mean, data.std))
    licence = data.license or "not stated"
    return replace(spec, pretrained=own, mean=mean, std=std, size=size, licence=licence)


@cache
@torch.no_grad()
def _measured(architecture: str) -> BackboneSpec:
    """Levels and strides of a model as timm makes it, without weights."""
    model, options = _made(architecture)
    info: Any = getattr(model, "feature_info", None)
    strides = [entry["reduction"] for entry in info] if isinstance(info, list) else []
    blocks = getattr(model, "blocks", None)
    if strides and len(set(strides)) == 1 and hasattr(model, "forward_intermediates") and blocks is not None:
        return _transformer(architecture, strides[0], len(blocks), options)
    return _pyramid(architecture, model)


def _made(architecture: str) -> tuple[nn.Module, tuple[str, ...]]:
    """The model, and the options that it took; its random weights are not drawn from the global generator."""
    import timm

    with torch.random.fork_rng(devices=[]):
        for options in _OPTIONS[:-1]:
            keywords: dict[str, Any] = dict.fromkeys(options, True)
            try:
                return timm.create_model(architecture, num_classes=0, **keywords), options
            except TypeError:  # an unknown keyword
                continue
        return timm.create_model(architecture, num_classes=0), ()


def _transformer(architecture: str, patch: int, blocks: int, options: tuple[str, ...]) -> BackboneSpec:
    if not options:
        raise InputError(f"backbone: {architecture} takes inputs of one size only")
    if blocks < 3:
        raise InputError(f"backbone: expected at least three blocks, {architecture} has {blocks}")
    return transformer(architecture, "", blocks, patch, "not stated", options)


def _pyramid(architecture: str, model: nn.Module) -> BackboneSpec:
    import timm

    try:
        with torch.random.fork_rng(devices=[]):
            body: Any = timm.create_model(architecture, features_only=True)
        strides = list(body.feature_info.reduction())
        levels = [strides.index(stride) for stride in STRIDES]
        edges = [level.shape[2:] for level in body.eval()(torch.zeros(1, 3, 96, 160))]
        fits = all(edges[at] == (96 // s, 160 // s) for at, s in zip(levels, STRIDES, strict=True))
    except Exception as error:  # timm raises many kinds for a model that gives no features
        raise InputError(
            f"backbone: {architecture} gives no features at strides 4, 8 and 16: {error}"
        ) from error
    if not fits:
        raise InputError(
            f"backbone: {architecture} gives no features [B,C,H,W] at strides 4, 8 and 16 of every image"
        )
    parts = [f"{name}." for name, _ in model.named_children()]
    return BackboneSpec(
        architecture=architecture,
        pretrained=architecture,
        levels=(levels[0], levels[1], levels[2]),
        left_over=(*parts, "head.", "classifier.", "fc."),
        licence="not stated",
    )
