"""Frozen feature extractors: ``create_backbone(name, weights=None, pretrained=True)``."""

from thfr.backbones.factory import BACKBONES, BackboneSpec, FeatureExtractor, backbone_spec, create_backbone
from thfr.backbones.weights import weights_digest

__all__ = [
    "BACKBONES",
    "BackboneSpec",
    "FeatureExtractor",
    "backbone_spec",
    "create_backbone",
    "weights_digest",
]
