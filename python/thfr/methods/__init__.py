"""Every method behind one interface, THFR being one of them.

A method is a :class:`Detector`: fitted by :func:`thfr.training.train` on good images, scoring images, saved
to and loaded from a run folder. Its settings are a subclass of :class:`thfr.config.RunConfig`.
"""

import lazy_loader

# Imported on first use: the names of methods are known without torch.
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
