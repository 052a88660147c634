"""Data sets by name (:mod:`thfr.data.registry`), images for networks, and made-up data
(:mod:`thfr.data.synth`).

Everything is imported on first use: names of formats are known without torch.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
