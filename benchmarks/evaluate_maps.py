"""Time `thfr evaluate --maps` on made-up maps of official size, as any method's user would run it.

    python benchmarks/evaluate_maps.py [--images 110] [--height 1600] [--width 800] [--memory 64M]
                                       [--official FOLDER] [--against PATH] [--rounds 3]

Writes a made-up category of MVTec LOCO AD with ``--images`` test images of each of the three kinds into a
temporary folder (the default is the size of juice_bottle: 330 maps, 1.7 GB), two regions an anomalous image,
and runs the command on it in a process of its own.

``--official``: a folder with the official evaluation tool of MVTec LOCO AD (``evaluate_experiment.py`` and
``src``), which is not part of this project. It is run in turn with the command, on the same files, each a
process of its own; both must give the same figures but for the thresholds that the tool samples.
``--against`` does the same with an older version of the command.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from thfr.io import write_map

CATEGORY = "juice_bottle"  # a name that the official tool takes; the images are made up
KINDS = ("good", "logical_anomalies", "structural_anomalies")
CONFIG = [
    {"defect_name": "part", "pixel_value": 255, "saturation_threshold": 20_000, "relative_saturation": False},
    {"defect_name": "area", "pixel_value": 254, "saturation_threshold": 0.5, "relative_saturation": True},
]


def save(path: Path, pixels: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, compress_level=1)


def make(root: Path, images: int, height: int, width: int) -> None:
    """A category below ``root / data`` and a random map a test image below ``root / maps``."""
    base, maps = root / "data" / CATEGORY, root / "maps" / CATEGORY
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


def evaluate(root: Path, path: str | None = None, memory: str | None = None) -> dict[str, float]:
    """One run of the command as a whole process; ``path``: PYTHONPATH of another version."""
    options = {"maps": root / "maps", "data": root / "data", "dataset": "mvtec_loco", "category": CATEGORY}
    if memory is not None:
        options["memory"] = memory
    command = ["-m", "thfr", "evaluate", "--out", root / "metrics.json", "--json"]
    for name, value in options.items():
        command += [f"--{name}", value]
    return run(root, command, {} if path is None else {"PYTHONPATH": path})


def evaluate_officially(root: Path, tool: Path) -> dict[str, float]:
    """One run of the official tool, at the caller's priority (its own default is the lowest)."""
    options = {"object_name": CATEGORY, "dataset_base_dir": root / "data", "anomaly_maps_dir": root / "maps"}
    command: list[object] = [tool.absolute() / "evaluate_experiment.py"]
    for name, value in {**options, "output_dir": root / "official", "niceness": 0}.items():
        command += [f"--{name}", value]
    return run(root, command, {})


def run(root: Path, command: Sequence[object], environment: dict[str, str]) -> dict[str, float]:
    before, started = children(), time.monotonic()
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    words = [sys.executable, *map(str, command)]
    subprocess.run(words, check=True, cwd=root, env={**os.environ, **environment}, **quiet)
    seconds = time.monotonic() - started
    return {"seconds": round(seconds, 2), "cpu_seconds": round(children() - before, 2)}


def differences(root: Path) -> dict[str, float]:
    """The largest differences between our figures and the official tool's."""
    ours, theirs = (
        json.loads((root / name).read_text()) for name in ("metrics.json", "official/metrics.json")
    )
    found = {}
    for section, name in (("classification", "auc_roc"), ("localization", "auc_spro")):
        pairs = zip(numbers(ours[section][name]), numbers(theirs[section][name]), strict=True)
        found[f"difference_{name}"] = max(abs(one - two) for one, two in pairs)
    return found


def numbers(figures: Any) -> list[float]:
    """All numbers of nested objects, by their names."""
    if not isinstance(figures, dict):
        return [figures]
    return [number for name in sorted(figures) for number in numbers(figures[name])]


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
    parser.add_argument("--memory", metavar="BYTES", help="as of the command")
    parser.add_argument("--official", type=Path, metavar="FOLDER", help="of the official tool, run in turn")
    parser.add_argument("--against", metavar="PYTHONPATH", help="of an older version, run in turn")
    parser.add_argument("--rounds", type=int, default=1, help="runs of each; the median counts")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    runs: dict[str, list[dict[str, float]]] = {"this": [], "other": [], "official": []}
    found: dict[str, object] = {"maps": 3 * options.images, "height": options.height, "width": options.width}
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        make(root, options.images, options.height, options.width)
        for _ in range(options.rounds):
            runs["this"].append(evaluate(root, memory=options.memory))
            mine = (root / "metrics.json").read_bytes()
            if options.official is not None:
                runs["official"].append(evaluate_officially(root, options.official))
                found |= differences(root)
            if options.against is not None:
                runs["other"].append(evaluate(root, options.against))
                assert json.loads((root / "metrics.json").read_bytes()) == json.loads(mine), "other figures"
    for name, all_ in runs.items():
        for key in all_[0] if all_ else ():
            each = [one[key] for one in all_]
            prefix = "" if name == "this" else f"{name}_"
            found[prefix + key] = statistics.median(each)
            if name != "this":
                ratios = [one[key] / own[key] for one, own in zip(all_, runs["this"], strict=True)]
                found[f"{prefix}ratio_{key}"] = [round(ratio, 2) for ratio in sorted(ratios)]
    print(json.dumps(found) if options.json else "\n".join(f"{key}: {value}" for key, value in found.items()))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
