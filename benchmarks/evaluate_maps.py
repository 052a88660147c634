"""Time `thfr evaluate --maps` on made-up maps of official size, as any method's user would run it.

    python benchmarks/evaluate_maps.py [--images 110] [--height 1600] [--width 800] [--json]

Writes a made-up category of MVTec LOCO AD with ``--images`` test images of each of the three kinds into a
temporary folder (the default is the size of juice_bottle: 330 maps, 1.7 GB), two regions an anomalous image,
and runs the command on it in a process of its own.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image
from thfr.io import write_map

KINDS = ("good", "logical_anomalies", "structural_anomalies")
CONFIG = [
    {"defect_name": "part", "pixel_value": 255, "saturation_threshold": 20_000, "relative_saturation": False},
    {"defect_name": "area", "pixel_value": 254, "saturation_threshold": 0.5, "relative_saturation": True},
]


def save(path: Path, pixels: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, compress_level=1)


def make(root: Path, images: int, height: int, width: int) -> None:
    """A category ``made_up`` below ``root / data`` and a random map a test image below ``root / maps``."""
    base, maps = root / "data" / "made_up", root / "maps" / "made_up"
    base.mkdir(parents=True)
    blank = np.zeros((height, width, 3), np.uint8)
    for split in ("train", "validation"):
        save(base / split / "good" / "000.png", blank)
    (base / "defects_config.json").write_text(json.dumps(CONFIG), encoding="utf-8")
    rng = np.random.default_rng(0)
    for kind in KINDS:
        for index in range(images):
            values = rng.normal(size=(height, width)).astype(np.float32)
            save(base / "test" / kind / f"{index:03d}.png", blank)
            if kind != "good":
                for channel, value in enumerate((255, 254)):
                    top, left = rng.integers(0, height // 2), rng.integers(0, width // 2)
                    mask = np.zeros((height, width), np.uint8)
                    mask[top : top + height // 5, left : left + width // 4] = value
                    values += (mask > 0).astype(np.float32)
                    save(base / "ground_truth" / kind / f"{index:03d}" / f"{channel:03d}.png", mask)
            write_map(maps / "test" / kind / f"{index:03d}.tiff", values)


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--images", type=int, default=110, help="test images of each kind")
    parser.add_argument("--height", type=int, default=1600)
    parser.add_argument("--width", type=int, default=800)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        make(root, options.images, options.height, options.width)
        command = [
            sys.executable,
            "-m",
            "thfr",
            "evaluate",
            "--maps",
            root / "maps",
            "--dataset",
            "mvtec_loco",
        ]
        command += [
            "--data",
            root / "data",
            "--category",
            "made_up",
            "--out",
            root / "metrics.json",
            "--json",
        ]
        started = time.monotonic()
        subprocess.run(list(map(str, command)), check=True, cwd=root, stdout=subprocess.DEVNULL)
        seconds = time.monotonic() - started
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    found = {
        "maps": 3 * options.images,
        "height": options.height,
        "width": options.width,
        "seconds": round(seconds, 2),
        "cpu_seconds": round(used.ru_utime + used.ru_stime, 2),
        "peak_memory_bytes": used.ru_maxrss * 1024,
    }
    print(json.dumps(found) if options.json else "\n".join(f"{key}: {value}" for key, value in found.items()))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
