"""Two tiny MVTec AD categories, and the options for studies of seconds on them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from PIL import Image
from thfr.cli import main

TINY = {"model": {"pretrained": False, "bottleneck_channels": 16}, "training": {"batch_size": 2}}


def write_category(root: Path, name: str, seed: int) -> None:
    """4 training images, 2 good and 2 scratched test images of 40 x 48."""
    rng = np.random.default_rng(seed)

    def write(place: str, scratched: bool = False) -> None:
        path = root / name / f"{place}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = rng.normal(128, 10, (40, 48, 3)).clip(0, 255).astype(np.uint8)
        if scratched:
            pixels[10:20, 10:30] = 255
            mask = np.zeros((40, 48), np.uint8)
            mask[10:20, 10:30] = 255
            mask_path = root / name / "ground_truth" / "scratch" / f"{path.stem}_mask.png"
            mask_path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(mask).save(mask_path)
        Image.fromarray(pixels).save(path)

    for number in range(4):
        write(f"train/good/{number:03d}")
    for number in range(2):
        write(f"test/good/{number:03d}")
        write(f"test/scratch/{number:03d}", scratched=True)


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("mvtec_ad")
    write_category(root, "plate", 0)
    write_category(root, "bottle", 1)
    return root


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Options that make a training of a second: random backbone weights, 64 x 64 pixels, one epoch."""
    path = tmp_path_factory.mktemp("config") / "tiny.yaml"
    path.write_text(yaml.safe_dump(TINY))
    options = ["--dataset", "mvtec_ad", "--backbone", "resnet18", "--size", "64", "--epochs", "1"]
    return [*options, "--device", "cpu", "--config", str(path)]


@pytest.fixture
def call(capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, dict[str, Any]]]:
    """Run a command with ``--json``; gives its exit code and its result, empty if there is none."""

    def run(*arguments: object) -> tuple[int, dict[str, Any]]:
        code = main([*map(str, arguments), "--json"])
        lines = capsys.readouterr().out.splitlines()
        return code, json.loads(lines[-1]) if lines else {}

    return run
