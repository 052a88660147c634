"""Data sets: MVTec AD, MVTec LOCO AD, a folder of good images, and made-up data (:mod:`thfr.data.synth`)."""

from __future__ import annotations

from thfr.data.base import Dataset, Regions, Sample
from thfr.data.catalogue import DATASETS, categories, load_dataset
from thfr.data.fingerprint import fingerprint
from thfr.data.folder import ImageFolder
from thfr.data.images import load_images
from thfr.data.mvtec_ad import MVTecAD
from thfr.data.mvtec_loco import MVTecLOCO, read_defects_config

__all__ = [
    "DATASETS",
    "Dataset",
    "ImageFolder",
    "MVTecAD",
    "MVTecLOCO",
    "Regions",
    "Sample",
    "categories",
    "fingerprint",
    "load_dataset",
    "load_images",
    "read_defects_config",
]
