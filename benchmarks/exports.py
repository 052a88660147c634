"""Runs in every format they are exported in: figures, closeness, time, size. One record a run and format,
written as soon as it is made; those that are there are not made again. Times are of the processor, not of the
clock, so that other programs count little; of one image and one thread. `--table` writes them into the page.

    python benchmarks/exports.py RUN... --out benchmarks/results/exports-2core-busy.json \\
        --table docs/results/export.md
"""

from __future__ import annotations

import argparse
import json
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
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
from thfr.io import atomic_write_text
from thfr.methods import Detector

FORMATS = {
    "onnx": ("onnx", "fp32"),
    "onnx int8": ("onnx", "int8"),
    "openvino": ("openvino", "fp32"),
    "openvino bf16": ("openvino", "bf16"),
    "torch.export": ("torch", "fp32"),
}
FIGURES = {"image_auroc": 3, "pixel_auroc": 4, "au_pro": 4}  # and the digits shown
HEAD = (
    "| run | format | image AUROC | pixel AUROC | AU-PRO | largest difference of a score (of) "
    "| of a map (of) | verdicts changed | ms | load s | MB |"
)
CLOSENESS = ("score_difference", "largest_score", "map_difference", "largest_map", "changed", "bad", "noise")


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
        return {"failed": str(error), **closeness(error.parity.as_dict())}
    begun = time.process_time()
    model = load(out, threads=1)
    load_seconds = round(time.process_time() - begun, 3)
    images = np.random.default_rng(0).integers(0, 256, (1, *model.size, 3), dtype=np.uint8)
    times = cpu_times(lambda: model.score_prepared(images))
    size = sum(path.stat().st_size for path in out.iterdir())
    return {
        **figures(evaluate_exported(out, data, out=folder / "metrics.json")),
        **closeness(parity),
        "cpu_load_seconds": load_seconds,
        "megabytes": round(size / 1e6, 1),
        "cpu_milliseconds": times,
    }


def closeness(parity: dict[str, Any]) -> dict[str, Any]:
    """What the gate found."""
    return {name: parity[name] for name in CLOSENESS} | {"images": parity["images"] + parity["planted"]}


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


def read(path: Path) -> list[dict[str, Any]]:
    return json.loads(path.read_text())["rows"] if path.is_file() else []


def write(path: Path, rows: list[dict[str, Any]]) -> None:
    """JSON with a record a line."""
    lines = ",\n".join(json.dumps(row) for row in rows)
    atomic_write_text(path, f'{{"torch": "{torch.__version__}", "rows": [\n{lines}\n]}}\n')


def table(rows: list[dict[str, Any]]) -> str:
    """The records in Markdown, sorted by run."""
    lines = [HEAD, "|" + " --- |" * (HEAD.count("|") - 1)]
    for row in sorted(rows, key=lambda row: row["run"]):  # stable: formats stay in their order
        cells = [row["run"], row["format"]]
        if "failed" in row:
            cells += ["the gate refuses it", "", ""]
        else:
            cells += [f"{row[name]:.{digits}f}" if name in row else "" for name, digits in FIGURES.items()]
        if "score_difference" in row:
            cells += [
                f"{row[f'{what}_difference']:.1e} ({row[f'largest_{what}']:.3g})" for what in ("score", "map")
            ]
            cells.append(f"{len(row['changed'])} of {row['images']}")
        else:
            cells += ["", "", ""]
        times = row.get("cpu_milliseconds")
        cells.append(f"{times['p50']} ({times['p95']})" if times else "")
        cells += [str(row.get(name, "")) for name in ("cpu_load_seconds", "megabytes")]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def write_table(page: Path, rows: list[dict[str, Any]]) -> None:
    """Put the table in the place of the one on the page."""
    text = page.read_text()
    begin = text.index(HEAD)
    end = text.index("\n\n", begin) + 1
    atomic_write_text(page, text[:begin] + table(rows) + text[end:])


def figures(metrics: dict[str, Any]) -> dict[str, Any]:
    return {name: metrics[name] for name in FIGURES if name in metrics}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("runs", nargs="*", type=Path, metavar="RUN")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--table", type=Path, metavar="PAGE", help="page whose table is renewed")
    args = parser.parse_args()
    torch.set_num_threads(1)
    rows = read(args.out)
    with tempfile.TemporaryDirectory() as shared:
        share_work(Path(shared))
        for run in args.runs:
            data = Path(json.loads((run / "data.json").read_text())["root"])
            for row in measure(run, data, {row["format"] for row in rows if row["run"] == run.name}):
                rows.append(row)
                write(args.out, rows)
                print(json.dumps(row), flush=True)
    if args.table is not None:
        write_table(args.table, rows)


def measure(run: Path, data: Path, there: set[str]) -> Iterator[dict[str, Any]]:
    """The records of a run in the formats that are not there yet."""
    for name, choice in {"torch eager": None, **FORMATS}.items():
        if name in there:
            continue
        with tempfile.TemporaryDirectory() as folder:
            given = (run, data, Path(folder))
            row = eager_row(*given) if choice is None else exported_row(*given, *choice)
        yield {"run": run.name, "format": name, **row}


if __name__ == "__main__":
    main()
