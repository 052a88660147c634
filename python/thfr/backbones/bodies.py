"""timm's models, made to give three levels."""

from __future__ import annotations

import copy
import sys
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from thfr.backbones.definition import BackboneSpec
from thfr.backbones.torchvision_guard import guard_torchvision


class Blocks(nn.Module):
    """A transformer's blocks up to the last that is wanted: the patches after each, without the class and
    register tokens and without the last normalisation, which is fitted to the last block's output.
    """

    def __init__(self, model: nn.Module, blocks: tuple[int, int, int]) -> None:
        super().__init__()
        self.blocks, self.model = blocks, model
        information: Any = model.feature_info
        self._information = [information[block] for block in blocks]
        shorten: Any = model.prune_intermediate_layers
        shorten(list(blocks), prune_norm=True, prune_head=True)

    def channels(self) -> list[int]:
        """Of each level."""
        return [entry["num_chs"] for entry in self._information]

    def reduction(self) -> list[int]:
        """The stride of each level."""
        return [entry["reduction"] for entry in self._information]

    @property
    def feature_info(self) -> Blocks:
        """What timm's pyramids keep under this name."""
        return self

    def forward(
        self,
        images: Tensor,  # [B,3,H,W]
    ) -> list[Tensor]:  # three [B,C,H/patch,W/patch]
        run: Any = self.model.forward_intermediates
        return run(images, indices=list(self.blocks), norm=False, output_fmt="NCHW", intermediates_only=True)

    def fixed(self, size: tuple[int, int]) -> Blocks:
        """A copy for inputs of one size, (height, width): its position embedding is resampled once and for
        all, which leaves no interpolation to an exporter.
        """
        other = copy.deepcopy(self)
        model: Any = other.model
        if getattr(model, "pos_embed", None) is not None and hasattr(model, "set_input_size"):
            with torch.no_grad():
                model.set_input_size(img_size=size)
            embed, layout = model.patch_embed, type(model.patch_embed.output_fmt)
            embed.flatten, embed.output_fmt, model.dynamic_img_size = True, layout.NCHW, False
        return other.requires_grad_(False)


def create_body(spec: BackboneSpec, pretrained: bool) -> nn.Module:
    """The network of a backbone; ``pretrained``: with the weights that timm fetches."""
    guard_torchvision()
    import timm  # after the guard

    name = spec.pretrained if pretrained else spec.architecture
    options: dict[str, Any] = dict.fromkeys(spec.options, True)
    if spec.kind == "transformer":
        model = timm.create_model(name, pretrained=pretrained, num_classes=0, **options)
        return Blocks(model, spec.levels)
    body: nn.Module = timm.create_model(
        name, pretrained=pretrained, features_only=True, out_indices=spec.levels, **options
    )
    if spec.stages is not None:
        body.blocks = body.blocks[: spec.stages]  # type: ignore[index]
    return body


def named_for(body: nn.Module, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A checkpoint under the names of ``body``, or of a transformer's ``body.model``.

    It may be in timm's names of the whole model, or, of a transformer that timm can convert, in its authors'.
    What cannot be converted is given back as it is.
    """
    if isinstance(body, Blocks):
        return _of_transformer(body.model, state)
    needed, named = body.state_dict().keys(), {}
    for name, tensor in state.items():
        flat = name.replace(".", "_", 1)  # timm names the parts of a pyramid without their container
        named[flat if flat in needed and name not in needed else name] = tensor
    return named


def _of_transformer(model: nn.Module, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    needed = model.state_dict()
    if all(name in state and state[name].shape == tensor.shape for name, tensor in needed.items()):
        return dict(state)
    convert = getattr(sys.modules[type(model).__module__], "checkpoint_filter_fn", None)
    if convert is None:
        return dict(state)
    try:
        return dict(convert(dict(state), model))
    except Exception:  # a checkpoint of something else; what is missing is named when it is loaded
        return dict(state)
