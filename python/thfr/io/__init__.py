"""Files in and out: images, masks, anomaly maps, names, and atomic writes."""

import lazy_loader

# Imported on first use: escaping a name needs neither NumPy nor Pillow.
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
