import lazy_loader

# Imported on first use: torch and timm take seconds, and `thfr --help` needs neither.
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
