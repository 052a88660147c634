"""Frozen feature extractors: ``create_backbone(name, weights=None, pretrained=True)``."""

import lazy_loader

# Imported on first use: the names of backbones are known without torch.
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
