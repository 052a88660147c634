"""Banks of feature rows that are larger than memory: shards on disk, searched one at a time."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
