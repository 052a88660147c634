"""Tiny data sets in the official layouts, written with Pillow alone."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image
from thfr.data import Dataset, load_dataset

HEIGHT, WIDTH = 12, 20
ABSOLUTE, RELATIVE = 200, 237  # pixel values in the defects_config.json below


def write_image(path: Path, pixels: np.ndarray | None = None) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.zeros((HEIGHT, WIDTH, 3), np.uint8) if pixels is None else pixels).save(path)


def box_mask(top: int, left: int, height: int, width: int, value: int = 255) -> np.ndarray:
    mask = np.zeros((HEIGHT, WIDTH), np.uint8)
    mask[top : top + height, left : left + width] = value
    return mask


@pytest.fixture
def mvtec_ad(tmp_path: Path) -> Dataset:
    """2 good, 2 scratch (the second with two components that touch at no corner), 1 dent."""
    base = tmp_path / "ad" / "nut"
    for place in ("train/good/000", "test/good/000", "test/good/001"):
        write_image(base / f"{place}.png")
    masks = {
        "scratch/000": box_mask(1, 1, 4, 5),
        "scratch/001": box_mask(0, 0, 2, 2) | box_mask(6, 9, 3, 7),
        "dent/000": box_mask(8, 3, 2, 2),
    }
    for place, mask in masks.items():
        write_image(base / "test" / f"{place}.png")
        write_image(base / "ground_truth" / f"{place}_mask.png", mask)
    return load_dataset("mvtec_ad", tmp_path / "ad")


@pytest.fixture
def mvtec_loco(tmp_path: Path) -> Dataset:
    """2 good, 2 logical (one of two overlapping regions), 2 structural; both kinds of saturation."""
    return make_loco(tmp_path / "loco", structural=True)


@pytest.fixture
def mvtec_loco_without_structural(tmp_path: Path) -> Dataset:
    return make_loco(tmp_path / "loco_logical", structural=False)


def make_loco(root: Path, structural: bool) -> Dataset:
    base = root / "tray"
    for place in ("train/good/000", "validation/good/000", "test/good/000", "test/good/001"):
        write_image(base / f"{place}.png")
    regions = {
        "logical_anomalies/000": [box_mask(1, 1, 6, 6, ABSOLUTE), box_mask(4, 4, 5, 9, RELATIVE)],
        "logical_anomalies/001": [box_mask(9, 15, 2, 3, ABSOLUTE)],
    }
    if structural:
        regions["structural_anomalies/000"] = [box_mask(0, 0, 3, 4, RELATIVE)]
        regions["structural_anomalies/001"] = [
            box_mask(7, 7, 4, 4, RELATIVE),
            box_mask(0, 12, 5, 5, ABSOLUTE),
        ]
    for place, masks in regions.items():
        write_image(base / "test" / f"{place}.png")
        for channel, mask in enumerate(masks):
            write_image(base / "ground_truth" / place / f"{channel:03d}.png", mask)
    config = [
        {
            "defect_name": "lost",
            "pixel_value": ABSOLUTE,
            "saturation_threshold": 10,
            "relative_saturation": False,
        },
        {
            "defect_name": "bent",
            "pixel_value": RELATIVE,
            "saturation_threshold": 0.5,
            "relative_saturation": True,
        },
    ]
    (base / "defects_config.json").write_text(json.dumps(config))
    return load_dataset("mvtec_loco", root)


@pytest.fixture
def write_maps(tmp_path: Path) -> Callable[[Dataset], Path]:
    """Writes a random map for every test image, in the official tree."""

    def write(dataset: Dataset) -> Path:
        rng = np.random.default_rng(0)
        for sample in dataset.test:
            path = tmp_path / "maps" / dataset.category / "test" / sample.kind / f"{sample.id}.tiff"
            path.parent.mkdir(parents=True, exist_ok=True)
            tifffile.imwrite(path, rng.random((HEIGHT, WIDTH), dtype=np.float32))
        return tmp_path / "maps"

    return write
