"""How long a run takes an image, stage by stage, on this machine."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from thfr.inference.graph import GraphedScorer
from thfr.methods import Detector
from thfr.methods.common.hooks import timed_stages
from thfr.training.memory import peak_memory

_WARM_UP = 2


def measure_latency(detector: Detector, batch: int, repeats: int, cuda_graph: bool = False) -> dict[str, Any]:
    """Time the detector's stages on made-up images of its input size; decoding and resizing are not in it.

    Args:
        batch: images at once.
        repeats: measured passes, after two that are not; p99 of fewer than 100 passes is close to their
        maximum.
        cuda_graph: also time :class:`~thfr.inference.GraphedScorer`, as the stage ``graph``.

    Raises:
        InputError: ``cuda_graph`` for a detector that is not on a GPU.

    Returns:
        ``batch``, ``repeats``, ``images_per_second`` (of the median pass), ``peak_memory_bytes`` (of the
        GPU during this measurement, or of the whole process so far), and ``milliseconds``: for each stage
        that the method names and for the ``total`` (without ``graph``) the percentiles ``p50``, ``p95`` and
        ``p99`` of a pass over one batch.
    """
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (batch, 3, *detector.size), generator=generator, dtype=torch.uint8)
    cuda = detector.device.type == "cuda"
    if cuda:
        torch.cuda.reset_peak_memory_stats(detector.device)
    graph = GraphedScorer(detector, batch) if cuda_graph else None
    passes = [_timed_pass(detector, images, graph) for _ in range(_WARM_UP + repeats)][_WARM_UP:]
    milliseconds = {stage: percentiles([one[stage] for one in passes]) for stage in passes[0]}
    return {
        "batch": batch,
        "repeats": repeats,
        "images_per_second": round(1000 * batch / milliseconds["total"]["p50"], 2),
        "peak_memory_bytes": torch.cuda.max_memory_allocated(detector.device) if cuda else peak_memory(),
        "milliseconds": milliseconds,
    }


def percentiles(times: Sequence[float]) -> dict[str, float]:
    """``p50``, ``p95`` and ``p99``."""
    return {f"p{p}": round(float(np.percentile(times, p)), 3) for p in (50, 95, 99)}


def _timed_pass(detector: Detector, images: Tensor, graph: GraphedScorer | None) -> dict[str, float]:
    """One :meth:`Detector.score_prepared`: milliseconds of each stage that the method names, and in all."""
    times: dict[str, float] = {}

    def timed(stage: str, step: Callable[[], Any]) -> Any:
        start = time.perf_counter()
        result = step()
        if detector.device.type == "cuda":
            torch.cuda.synchronize(detector.device)
        times[stage] = times.get(stage, 0.0) + 1000 * (time.perf_counter() - start)
        return result

    with timed_stages(timed):
        timed("total", lambda: detector.score_prepared(images))
    if graph is not None:
        timed("graph", lambda: graph(images))
    return times
