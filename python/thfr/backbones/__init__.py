"""Frozen feature extractors: ``create_backbone(name, weights=None, pretrained=True)``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from thfr.lazy import lazy_exports

if TYPE_CHECKING:
    from thfr.backbones.factory import FeatureExtractor, create_backbone
    from thfr.backbones.specs import BACKBONES, BackboneSpec, backbone_spec
    from thfr.backbones.weights import weights_digest

# Imported on first use: the names of backbones are known without torch.
__getattr__, __dir__ = lazy_exports(
    __name__,
    {
        "factory": ("FeatureExtractor", "create_backbone"),
        "specs": ("BACKBONES", "BackboneSpec", "backbone_spec"),
        "weights": ("weights_digest",),
    },
)

__all__ = [
    "BACKBONES",
    "BackboneSpec",
    "FeatureExtractor",
    "backbone_spec",
    "create_backbone",
    "weights_digest",
]
