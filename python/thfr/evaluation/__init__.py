"""The published protocols of MVTec AD and MVTec LOCO AD, for this method's maps and any other's."""

import lazy_loader

# Imported on first use: an evaluation of maps on disk needs no torch.
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
