"""Memory and time of `thfr predict --stream` as the number of images grows.

    python benchmarks/stream_scale.py --folder SCRATCH [--images 20000]

Trains a small PatchCore on made-up images of 32 x 32, then scores folders of a quarter, a half and all of
``--images`` of them, each in a process of its own.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import shutil
import time
from pathlib import Path
from typing import Any

import numpy as np
from bank_scale import peak_memory
from PIL import Image

_SETTINGS = {
    "method": "patchcore",
    "model": {"backbone": "tf_efficientnet_lite0", "size": 64, "bank_ratio": 0.2},
    "training": {"projection": 32, "holdout": 0.2},
}


def score(run: str, images: str, out: str, answer: Any) -> None:
    from thfr.inference.stream import predict_stream
    from thfr.methods import Detector

    detector = Detector.load(Path(run), "cpu")
    before, started = peak_memory(), time.monotonic()
    found = predict_stream(detector, images, out)
    seconds = round(time.monotonic() - started, 1)
    answer.send({"images": found["images"], "seconds": seconds, "memory": peak_memory() - before})


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--images", type=int, default=20_000)
    options = parser.parse_args()
    from thfr.methods.registry import config_from_values
    from thfr.training import train

    root, rng = options.folder, np.random.default_rng(0)
    shutil.rmtree(root, ignore_errors=True)
    pixels = rng.integers(90, 160, (64, 32, 32, 3), dtype=np.uint8)
    good = root / "good"
    good.mkdir(parents=True)
    for number in range(10):
        Image.fromarray(pixels[number]).save(good / f"{number}.png")
    train(config_from_values(_SETTINGS), sorted(good.iterdir()), root / "run", device="cpu", progress=False)
    context = multiprocessing.get_context("spawn")
    for part in (4, 2, 1):
        count, folder = options.images // part, root / f"images{part}"
        for number in range(count):
            if number % 1000 == 0:
                (folder / f"{number // 1000:04d}").mkdir(parents=True)
            path = folder / f"{number // 1000:04d}" / f"{number:06d}.png"
            Image.fromarray(pixels[number % 64]).save(path, compress_level=1)
        ours, theirs = context.Pipe()
        given = (str(root / "run"), str(folder), str(root / f"out{part}"), theirs)
        child = context.Process(target=score, args=given)
        child.start()
        print(json.dumps(ours.recv()), flush=True)
        child.join()
    shutil.rmtree(root)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
