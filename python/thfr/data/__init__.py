"""Data sets by name (:mod:`thfr.data.registry`), images for networks, and made-up data
(:mod:`thfr.data.synth`).

Everything is imported on first use: names of formats are known without torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from thfr.data.registry import categories, dataset_names, load_dataset, register_dataset

if TYPE_CHECKING:
    from thfr.data.base import ComponentDataset, Dataset, Regions, Sample, Verification
    from thfr.data.digest import fingerprint
    from thfr.data.formats.folder import ImageFolder
    from thfr.data.formats.mvtec_ad import MVTecAD
    from thfr.data.formats.mvtec_loco import MVTecLOCO, read_defects_config
    from thfr.data.images import Loaded, load_images, load_inputs
    from thfr.data.notes import gathered
    from thfr.data.profile import ImageProfile

_LAZY = {
    "ComponentDataset": "base",
    "Dataset": "base",
    "ImageFolder": "formats.folder",
    "ImageProfile": "profile",
    "Loaded": "images",
    "MVTecAD": "formats.mvtec_ad",
    "MVTecLOCO": "formats.mvtec_loco",
    "Regions": "base",
    "Sample": "base",
    "Verification": "base",
    "fingerprint": "digest",
    "gathered": "notes",
    "load_images": "images",
    "load_inputs": "images",
    "read_defects_config": "formats.mvtec_loco",
}

__all__ = [
    "ComponentDataset",
    "Dataset",
    "ImageFolder",
    "ImageProfile",
    "Loaded",
    "MVTecAD",
    "MVTecLOCO",
    "Regions",
    "Sample",
    "Verification",
    "categories",
    "dataset_names",
    "fingerprint",
    "gathered",
    "load_dataset",
    "load_images",
    "load_inputs",
    "read_defects_config",
    "register_dataset",
]


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return getattr(import_module(f"thfr.data.{_LAZY[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *_LAZY})
