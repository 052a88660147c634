"""What every test may use."""

from __future__ import annotations

import os
import random
import zlib
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from support.device import DEVICES, Device, emulation

# One worker of pytest-xdist a core: more threads than free cores slow everything down tenfold.
torch.set_num_threads(1)

ROOT = Path(__file__).resolve().parents[1]
SHARED = Path(os.environ.get("THFR_SHARED", ROOT.parent / "shared"))


@pytest.fixture(params=DEVICES)
def device(request: pytest.FixtureRequest) -> Iterator[Device]:
    """Where a test's operators run: on the CPU, and on each device that is there. The emulator's threads run
    as they are numbered or in one of two random orders, by the name of the test; `tests/emulator` has all.
    """
    order = zlib.crc32(request.node.nodeid.encode()) % 3
    with emulation(order) if request.param == "emulated" else nullcontext():
        yield Device(request.param)


@pytest.fixture(autouse=True)
def seeded(request: pytest.FixtureRequest) -> None:
    """Draws without a generator follow from the name of the test, not from the tests that ran before it."""
    seed = zlib.crc32(request.node.nodeid.encode())
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)


@pytest.fixture(scope="session", autouse=True)
def elsewhere(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Run in an empty folder: ``python -c`` in the project's own would import the sources."""
    before = Path.cwd()
    os.chdir(tmp_path_factory.mktemp("elsewhere"))
    yield
    os.chdir(before)


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of real images and weights; the test is skipped where it is absent."""
    if not (SHARED / "data").is_dir():
        pytest.skip(f"no real images: {SHARED / 'data'} is absent (set THFR_SHARED)")
    return SHARED


@pytest.fixture(scope="session")
def plates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two tiny MVTec AD categories, ``plate`` and ``bottle``."""
    root = tmp_path_factory.mktemp("mvtec_ad")
    write_category(root, "plate", 0)
    write_category(root, "bottle", 1)
    return root


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
