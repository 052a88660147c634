"""Memory and time of `thfr train` and `thfr predict --stream` as the number of images grows.

    python benchmarks/images_scale.py --folder SCRATCH [--counts 1000 10000 100000] [--only STEP]

The images are 64 x 64 PNG files, hard links to 64 made-up ones. PatchCore is trained on them with 8 MB of
memory for pixels and a coreset of 2,000 patches out of 20,000; then a run of 1,000 images scores all of them.
Each step is a process of its own; `memory` is its peak, `before` what it held once torch was imported.
`--only killed`: a prediction into CSV, then one into Parquet, is killed (SIGKILL) once half of the rows are
there, and called again; every image must have one row in the end. It needs `run1000`.
"""

from __future__ import annotations

import argparse
import csv
import json
import math
import multiprocessing
import os
import shutil
import time
from pathlib import Path
from typing import Any

import numpy as np
from bank_scale import peak_memory
from PIL import Image
from thfr.predictions.rows import PARTIAL, PARTIAL_CSV

_SETTINGS = {
    "method": "patchcore",
    "model": {"backbone": "tf_efficientnet_lite0", "size": 64, "bank_limit": 2000},
    "training": {"projection": 32, "candidates": 20_000, "holdout": 0.01},
}


def make_images(root: Path, count: int) -> Path:
    """A folder with ``count`` images, a thousand in each of its folders."""
    folder, rng = root / f"images{count}", np.random.default_rng(0)
    originals = []
    for number in range(64):
        path = root / f"original{number}.png"
        if not path.exists():
            noise = rng.normal(0, 6, (64, 64, 3)) + 128 + 30 * np.sin(np.arange(64) / 5)[:, None, None]
            root.mkdir(parents=True, exist_ok=True)
            Image.fromarray(noise.clip(0, 255).astype(np.uint8)).save(path)
        originals.append(path)
    for number in range(count):
        place = folder / f"{number // 1000:04d}"
        if number % 1000 == 0:
            place.mkdir(parents=True, exist_ok=True)
        os.link(originals[number % 64], place / f"{number:06d}.png")
    return folder


def train(root: Path, count: int, images: Path) -> dict[str, Any]:
    from thfr.data import load_dataset
    from thfr.methods.registry import config_from_values
    from thfr.training import train

    before, started = peak_memory(), time.monotonic()
    train(
        config_from_values(_SETTINGS),
        load_dataset("folder", images),
        root / f"run{count}",
        device="cpu",
        progress=False,
        cache_budget=8_000_000,
    )
    return {"seconds": round(time.monotonic() - started, 1), "before": before, "memory": peak_memory()}


def predict(root: Path, count: int, images: Path) -> dict[str, Any]:
    from thfr.inference.stream import predict_stream
    from thfr.methods import Detector

    detector = Detector.load(root / "run1000", "cpu")
    before, started = peak_memory(), time.monotonic()
    found = predict_stream(detector, images, root / f"out{count}")
    assert found["images"] == count
    return {"seconds": round(time.monotonic() - started, 1), "before": before, "memory": peak_memory()}


def stream(root: Path, images: Path, out: Path, table: Any, answer: Any) -> None:
    import torch
    from thfr.inference.stream import predict_stream
    from thfr.methods import Detector

    torch.set_num_threads(1)
    found = predict_stream(Detector.load(root / "run1000", "cpu"), images, out, table=table)
    answer.send({"resumed": found["resumed"], "scores": found["scores"]})


def rows_there(out: Path) -> int:
    """Rows of an unfinished table, at least."""
    if (out / PARTIAL_CSV).is_file():
        return (out / PARTIAL_CSV).read_bytes().count(b"\n") - 1
    return 512 * len(list((out / PARTIAL).glob("*.parquet")))


def killed(context: Any, root: Path, count: int, images: Path, table: str) -> dict[str, Any]:
    out, (ours, theirs) = root / f"killed{count}-{table}", context.Pipe()
    for wanted in (count // 2, None):
        child = context.Process(target=stream, args=(root, images, out, table, theirs))
        child.start()
        while wanted is not None and child.is_alive():
            child.join(timeout=0.2)
            if rows_there(out) >= wanted:
                child.kill()
        child.join()
    found = ours.recv()
    if table == "csv":
        with Path(found["scores"]).open(newline="", encoding="utf-8") as file:
            names = [row["file"] for row in csv.DictReader(file)]
    else:
        from pyarrow.parquet import read_table

        names = read_table(found["scores"], columns=["file"])["file"].to_pylist()
    expected = sorted(path.relative_to(images).as_posix() for path in images.rglob("*.png"))
    assert sorted(names) == expected, "an image has no row, or several"
    assert 0 < found["resumed"] < count, "not killed in its middle"
    shutil.rmtree(out)
    return {
        "step": "killed",
        "images": count,
        "table": table,
        "rows": len(names),
        "resumed": found["resumed"],
    }


def step(name: str, root: Path, count: int, images: Path, answer: Any) -> None:
    import torch

    torch.set_num_threads(1)
    started = time.process_time()
    found = {"train": train, "predict": predict}[name](root, count, images)
    answer.send({"step": name, "images": count, **found, "cpu": round(time.process_time() - started, 1)})


def slope(lines: list[dict[str, Any]], what: str) -> float:
    """Of the logarithm over that of the number of images, between the last two."""
    one, other = lines[-2:]
    return math.log(other[what] / one[what]) / math.log(other["images"] / one["images"])


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--counts", type=int, nargs="+", default=[1000, 10_000, 100_000])
    parser.add_argument("--only", choices=("train", "predict", "killed"))
    options = parser.parse_args()
    context, root = multiprocessing.get_context("spawn"), options.folder
    lines: dict[str, list[dict[str, Any]]] = {"train": [], "predict": []}
    for count in options.counts:
        images = root / f"images{count}"
        if not images.exists():
            make_images(root, count)
        if options.only == "killed":
            for table in ("csv", "parquet"):
                print(json.dumps(killed(context, root, count, images, table)), flush=True)
            continue
        for name in [options.only] if options.only else lines:
            ours, theirs = context.Pipe()
            child = context.Process(target=step, args=(name, root, count, images, theirs))
            child.start()
            theirs.close()
            lines[name].append(ours.recv())
            child.join()
            print(json.dumps(lines[name][-1]), flush=True)
        shutil.rmtree(root / f"out{count}", ignore_errors=True)
    for name, found in lines.items():
        if len(found) > 1:
            each = (found[-1]["memory"] - found[-2]["memory"]) / (found[-1]["images"] - found[-2]["images"])
            print(f"{name}: {each:.0f} bytes an image more, slope of the time {slope(found, 'cpu'):.2f}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
