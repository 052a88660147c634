"""How right and how fast an exported folder is: what ``evaluate`` and ``bench`` say of a run."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import numpy as np

from thfr.deploy.exported import load
from thfr.evaluation.latency import percentiles
from thfr.evaluation.run import data_of_run, write_figures
from thfr.runs import files
from thfr.training.memory import peak_memory

_WARM_UP = 2


def evaluate_exported(
    folder: str | os.PathLike[str],
    data: str | os.PathLike[str] | None = None,
    *,
    out: str | os.PathLike[str] | None = None,
    maps_out: str | os.PathLike[str] | None = None,
    memory: int | None = None,
    progress: bool = False,
) -> dict[str, Any]:
    """As :func:`thfr.evaluation.evaluate_run`, with an exported model.

    Args:
        folder: of ``thfr export``.
        data: folder of the data set that its run was trained on; an exported folder does not say where it is.
        out: file to write; None: ``metrics.json`` in ``folder``.
        maps_out: folder for scores and maps; None: not kept.
        memory: bytes for what is kept of the pixels, see :func:`thfr.evaluation.evaluate_maps`.
        progress: show a progress bar on stderr.

    Raises:
        InputError: no exported folder, no data, or an ``out`` that cannot be written.
    """
    model = load(folder)
    target = Path(folder) / files.METRICS if out is None else Path(out)
    dataset = data_of_run(Path(folder), model.metadata.get("dataset", {}), data)
    told = {**model.metadata["model"], "format": model.metadata["format"], "precision": model.precision}
    return write_figures(target, model, dataset, told, maps_out=maps_out, memory=memory, progress=progress)


def measure_exported(folder: str | os.PathLike[str], repeats: int, threads: int | None) -> dict[str, Any]:
    """Time an exported model on made-up images of its input size; decoding and resizing are not in it.

    Gives what ``thfr bench --json`` prints: ``batches`` as of :func:`thfr.evaluation.latency.measure_latency`
    with the only stage ``total``, ``load_seconds``, and ``bytes`` of the folder.
    """
    begun = time.perf_counter()
    model = load(folder, threads)
    load_seconds = time.perf_counter() - begun
    return {
        "model": {**model.metadata["model"], "label": model.label},
        "format": model.metadata["format"],
        "precision": model.precision,
        "threads": threads,
        "load_seconds": round(load_seconds, 3),
        "bytes": sum(path.stat().st_size for path in Path(folder).iterdir() if path.is_file()),
        "batches": [_measured(model, batch, repeats) for batch in (1, 16)],
    }


def _measured(model: Any, batch: int, repeats: int) -> dict[str, Any]:
    images = np.random.default_rng(0).integers(0, 256, (batch, *model.size, 3), dtype=np.uint8)
    times = []
    for _ in range(_WARM_UP + repeats):
        begun = time.perf_counter()
        model.score_prepared(images)
        times.append(1000 * (time.perf_counter() - begun))
    total = percentiles(times[_WARM_UP:])
    return {
        "batch": batch,
        "repeats": repeats,
        "images_per_second": round(1000 * batch / total["p50"], 2),
        "peak_memory_bytes": peak_memory(),
        "milliseconds": {"total": total},
    }
