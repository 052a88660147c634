"""Runs in every format that they are exported in: figures, closeness, time, size. One row a run and format,
written as soon as it is made; rows that are there are not made again. Times are of the processor, not of the
clock, so that other programs count little; of one image and one thread.

    python benchmarks/exports.py RUN... --data ROOT --out benchmarks/results/exports.json
"""

from __future__ import annotations

import argparse
import json
import shutil
import tempfile
import time
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from thfr.deploy.export import formats
from thfr.deploy.export import run as export
from thfr.deploy.exported import load
from thfr.deploy.exported_figures import evaluate_exported
from thfr.evaluation import evaluate_run
from thfr.io import atomic_write_json
from thfr.methods import Detector

FORMATS = {
    "onnx": ("onnx", "fp32"),
    "onnx int8": ("onnx", "int8"),
    "openvino": ("openvino", "fp32"),
    "openvino bf16": ("openvino", "bf16"),
    "torch.export": ("torch", "fp32"),
}
FIGURES = ("image_auroc", "pixel_auroc", "au_pro")
CLOSENESS = ("score_difference", "largest_score", "map_difference", "largest_map", "changed", "bad")


def eager_row(run: Path, data: Path, folder: Path) -> dict[str, Any]:
    """The run itself, in PyTorch."""
    metrics = evaluate_run(run, data, out=folder / "metrics.json", device="cpu")
    detector = Detector.load(run, "cpu")
    images = torch.randint(0, 256, (1, 3, *detector.size), dtype=torch.uint8)
    return {**figures(metrics), "cpu_milliseconds": cpu_times(lambda: detector.score_prepared(images))}


def exported_row(run: Path, data: Path, folder: Path, format: str, precision: str) -> dict[str, Any]:
    out = folder / "model"
    try:
        parity = export.export_run(run, out, format, precision=precision)["parity"]
    except export.GateFailed as error:
        return {"failed": str(error), **{name: error.parity.as_dict()[name] for name in CLOSENESS}}
    begun = time.process_time()
    model = load(out, threads=1)
    load_seconds = round(time.process_time() - begun, 3)
    images = np.random.default_rng(0).integers(0, 256, (1, *model.size, 3), dtype=np.uint8)
    times = cpu_times(lambda: model.score_prepared(images))
    size = sum(path.stat().st_size for path in out.iterdir())
    return {
        **figures(evaluate_exported(out, data, out=folder / "metrics.json")),
        **{name: parity[name] for name in CLOSENESS},
        "images": parity["images"] + parity["planted"],
        "cpu_load_seconds": load_seconds,
        "megabytes": round(size / 1e6, 1),
        "cpu_milliseconds": times,
    }


def cpu_times(step: Callable[[], Any], repeats: int = 20) -> dict[str, float]:
    """Percentiles of what a call costs the processor."""
    times = []
    for _ in range(2 + repeats):
        begun = time.process_time()
        step()
        times.append(1000 * (time.process_time() - begun))
    return {f"p{p}": round(float(np.percentile(times[2:], p)), 1) for p in (50, 95)}


def share_work(folder: Path) -> None:
    """Trace and convert each run once for all formats: that takes longer than everything else here."""
    trace, write = export.trace, formats._write_onnx

    @lru_cache(maxsize=1)
    def traced(digest: str, limit: float) -> torch.export.ExportedProgram:
        return trace(held[digest], limit)

    def cached_trace(detector: Any, limit: float, native: bool) -> torch.export.ExportedProgram:
        held.clear()
        held[detector.digest] = detector
        return traced(detector.digest, limit)

    def cached_write(program: torch.export.ExportedProgram, path: Path) -> dict[str, Any]:
        kept = folder / f"{id(program)}.onnx"
        if not kept.is_file():
            versions[id(program)] = write(program, kept)
        shutil.copy(kept, path)
        return versions[id(program)]

    held: dict[str, Any] = {}
    versions: dict[int, dict[str, Any]] = {}
    export.trace, formats._write_onnx = cached_trace, cached_write


def figures(metrics: dict[str, Any]) -> dict[str, Any]:
    return {name: metrics[name] for name in FIGURES if name in metrics}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN")
    parser.add_argument("--data", type=Path, required=True, help="folder of the runs' data sets")
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    torch.set_num_threads(1)
    held = (
        json.loads(args.out.read_text()) if args.out.is_file() else {"torch": torch.__version__, "rows": {}}
    )
    with tempfile.TemporaryDirectory() as shared:
        share_work(Path(shared))
        for run in args.runs:
            measure(
                run,
                args.data,
                held["rows"].setdefault(run.name, {}),
                lambda: atomic_write_json(args.out, held),
            )


def measure(run: Path, data: Path, rows: dict[str, Any], save: Callable[[], None]) -> None:
    """Add the rows of a run that are missing."""
    for name, choice in {"torch eager": None, **FORMATS}.items():
        if name in rows:
            continue
        with tempfile.TemporaryDirectory() as folder:
            given = (run, data, Path(folder))
            rows[name] = eager_row(*given) if choice is None else exported_row(*given, *choice)
        save()
        print(run.name, name, json.dumps(rows[name]), flush=True)


if __name__ == "__main__":
    main()
