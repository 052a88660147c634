"""Time `thfr evaluate --maps` on made-up maps of official size, as any method's user would run it.

    python benchmarks/evaluate_maps.py [--images 110] [--height 1600] [--width 800] [--against PATH]

Writes a made-up category of MVTec LOCO AD with ``--images`` test images of each of the three kinds into a
temporary folder (the default is the size of juice_bottle: 330 maps, 1.7 GB), two regions an anomalous image,
and runs the command on it in a process of its own.

The official evaluation tool of MVTec LOCO AD is not part of this project. On a quiet machine it took 2.6
times as long (19.5 s) as the command of version 0.2 (7.5 s) for 200 maps of 400 x 800. ``--against`` runs an
older version's command in turn with this one's: the ratio to it, times 2.6, says how many times faster than
the official tool this version is.
"""

from __future__ import annotations

import argparse
import json
import os
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


def evaluate(root: Path, python: str, path: str | None) -> dict[str, float]:
    """One run of the command as a whole process; ``path``: PYTHONPATH of another version."""
    options = {"maps": root / "maps", "data": root / "data", "dataset": "mvtec_loco", "category": "made_up"}
    command = [python, "-m", "thfr", "evaluate", "--out", str(root / "metrics.json"), "--json"]
    for name, value in options.items():
        command += [f"--{name}", str(value)]
    environment = dict(os.environ) if path is None else {**os.environ, "PYTHONPATH": path}
    before, started = children(), time.monotonic()
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    subprocess.run(command, check=True, cwd=root, env=environment, **quiet)
    seconds = time.monotonic() - started
    return {"seconds": round(seconds, 2), "cpu_seconds": round(children() - before, 2)}


def children() -> float:
    """Processor seconds of finished child processes."""
    times = os.times()
    return times.children_user + times.children_system


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--images", type=int, default=110, help="test images of each kind")
    parser.add_argument("--height", type=int, default=1600)
    parser.add_argument("--width", type=int, default=800)
    parser.add_argument("--against", metavar="PYTHONPATH", help="of an older version, run in turn")
    parser.add_argument("--rounds", type=int, default=1, help="runs of each; the fastest counts")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    runs: dict[str, list[dict[str, float]]] = {"this": [], "other": []}
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        make(root, options.images, options.height, options.width)
        for _ in range(options.rounds):
            runs["this"].append(evaluate(root, sys.executable, None))
            mine = (root / "metrics.json").read_bytes()
            if options.against is not None:
                runs["other"].append(evaluate(root, sys.executable, options.against))
                assert json.loads((root / "metrics.json").read_bytes()) == json.loads(mine), "other figures"
    found: dict[str, object] = {
        "maps": 3 * options.images,
        "height": options.height,
        "width": options.width,
    }
    best = {
        name: {key: min(one[key] for one in all_) for key in all_[0]} for name, all_ in runs.items() if all_
    }
    found |= best["this"]
    if "other" in best:
        found |= {f"other_{key}": value for key, value in best["other"].items()}
        found |= {f"ratio_{key}": round(best["other"][key] / value, 2) for key, value in best["this"].items()}
    print(json.dumps(found) if options.json else "\n".join(f"{key}: {value}" for key, value in found.items()))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
