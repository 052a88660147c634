"""Runs in every format that they are exported in: figures, closeness, time, size. One row a run and format,
written as soon as it is made; rows that are there are not made again.

    python benchmarks/exports.py RUN... --data ROOT --out benchmarks/results/exports.json [--threads 1]
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path
from typing import Any

import torch
from thfr.deploy.export.run import GateFailed, export_run
from thfr.deploy.exported_figures import evaluate_exported, measure_exported
from thfr.evaluation import evaluate_run
from thfr.evaluation.latency import measure_latency
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


def eager_row(run: Path, data: Path, repeats: int, folder: Path) -> dict[str, Any]:
    """The run itself, in PyTorch."""
    metrics = evaluate_run(run, data, out=folder / "metrics.json", device="cpu")
    timed = measure_latency(Detector.load(run, "cpu"), 1, repeats)
    return {**figures(metrics), "milliseconds": timed["milliseconds"]}


def exported_row(
    run: Path, data: Path, repeats: int, folder: Path, threads: int, format: str, precision: str
) -> dict[str, Any]:
    out = folder / "model"
    try:
        parity = export_run(run, out, format, precision=precision)["parity"]
    except GateFailed as error:
        return {"failed": str(error), **{name: error.parity.as_dict()[name] for name in CLOSENESS}}
    metrics = evaluate_exported(out, data, out=folder / "metrics.json")
    timed = measure_exported(out, repeats, threads)
    return {
        **figures(metrics),
        **{name: parity[name] for name in CLOSENESS},
        "images": parity["images"] + parity["planted"],
        "load_seconds": timed["load_seconds"],
        "megabytes": round(timed["bytes"] / 1e6, 1),
        "milliseconds": timed["batches"][0]["milliseconds"],
    }


def figures(metrics: dict[str, Any]) -> dict[str, Any]:
    return {name: metrics[name] for name in FIGURES if name in metrics}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN")
    parser.add_argument("--data", type=Path, required=True, help="folder of the runs' data sets")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=30)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    held = json.loads(args.out.read_text()) if args.out.is_file() else {"threads": args.threads, "rows": {}}
    for run in args.runs:
        rows = held["rows"].setdefault(run.name, {})
        for name, choice in {"torch eager": None, **FORMATS}.items():
            if name in rows:
                continue
            with tempfile.TemporaryDirectory() as folder:
                given = (run, args.data, args.repeats, Path(folder))
                rows[name] = (
                    eager_row(*given) if choice is None else exported_row(*given, args.threads, *choice)
                )
            atomic_write_json(args.out, held)
            print(run.name, name, json.dumps(rows[name]), flush=True)


if __name__ == "__main__":
    main()
