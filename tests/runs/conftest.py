"""A run folder, made in a second."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from thfr.methods.thfr.config import THFRConfig, THFRModelConfig, THFRTrainingConfig
from thfr.training import train


def tiny(**training: object) -> THFRConfig:
    """64 x 64 pixels, random backbone, one epoch."""
    return THFRConfig(
        model=THFRModelConfig(backbone="resnet18", pretrained=False, size=64, bottleneck_channels=16),
        training=THFRTrainingConfig(**{"epochs": 1, "min_steps": 0, "batch_size": 2, **training}),
    )


@pytest.fixture(scope="session")
def images(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Six images of noise."""
    folder = tmp_path_factory.mktemp("noise")
    for seed in range(6):
        pixels = np.random.default_rng(seed).integers(0, 256, (70, 64, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{seed}.png")
    return sorted(folder.iterdir())


@pytest.fixture(scope="session")
def finished(images: list[Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with a threshold."""
    out = tmp_path_factory.mktemp("finished") / "run"
    train(tiny(holdout=0.34), images, out, device="cpu", progress=False)
    return out


@pytest.fixture
def run(finished: Path, tmp_path: Path) -> Path:
    """A copy of the run, to be changed."""
    return Path(shutil.copytree(finished, tmp_path / "run"))
