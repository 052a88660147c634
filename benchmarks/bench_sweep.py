"""The sweeps against sorting every pixel, a loop over thresholds and the packages that are installed.

python benchmarks/run.py sweep, or pytest benchmarks/bench_sweep.py --benchmark-only

The floor is one read of every score and mask byte: 5 bytes a pixel, one more for each region of AU-sPRO.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import harness
import numpy as np
import peers
import pytest
import sweep_rivals as rivals
import torch
from scipy import ndimage
from sweep_rivals import LIMITS, make_images, make_regions

import thfr_ext

LIMIT = 0.3
EXACT, BOUNDED = "thfr_ext AUPRO, streamed", "thfr_ext AUPRO(exact=False)"
LOOP = "threshold loop, 50 + 10 x 100"


def unlike(results: dict[str, Any]) -> dict[str, float]:
    """How far each contender's area is from ours: of the approximate ones this is the error."""
    ours = results[harness.OURS]
    return {name: abs(float(area - ours)) for name, area in results.items() if name != harness.OURS}


def stream(metric: Any, batches: list[tuple[Any, ...]]) -> float:
    """A metric fed an image at a time."""
    for batch in batches:
        metric.update(*batch)
    return float(metric.compute())


def memory_of(batches: list[tuple[Any, ...]]) -> dict[str, float]:
    """What the two modes of the metric hold after each batch at most, and how near the bounded one comes."""
    exact, bounded = thfr_ext.metrics.AUPRO(LIMIT), thfr_ext.metrics.AUPRO(LIMIT, exact=False)
    most = {exact: 0, bounded: 0}
    for batch in batches:
        for metric in most:
            metric.update(*batch)
            most[metric] = max(most[metric], metric.state_bytes)
    error = abs(float(exact.compute() - bounded.compute()))
    return {
        "AUPRO, largest state in MB": most[exact] / 1e6,
        "AUPRO(exact=False), largest state in MB": most[bounded] / 1e6,
        "AUPRO(exact=False), error": error,
        "AUPRO(exact=False), error_bound": float(bounded.error_bound),
    }


def make_pro(count: int, side: int, power: int = 1) -> harness.Work:
    maps, masks = make_images(count, side, side)
    maps **= power
    batches = [(maps[i : i + 1], masks[i : i + 1]) for i in range(count)]
    calls: harness.Contenders = {
        harness.OURS: lambda: thfr_ext.au_pro(maps, masks, LIMIT),
        EXACT: lambda: stream(thfr_ext.metrics.AUPRO(LIMIT), batches),
        BOUNDED: lambda: stream(thfr_ext.metrics.AUPRO(LIMIT, exact=False), batches),
        "NumPy argsort": lambda: rivals.argsort_au_pro(maps, masks, LIMIT),
        **rivals.installed_au_pro(maps, masks, LIMIT),
    }
    notes = dict.fromkeys((EXACT, BOUNDED), "ours, an image at a time")
    facts = partial(memory_of, batches)
    return harness.Work(calls, 5 * maps.size, 0, unlike, facts, notes)


def make_spro(count: int) -> harness.Work:
    maps, masks = make_images(count, 1000, 1600)
    regions, saturations = make_regions(masks)
    images = list(maps)
    calls: harness.Contenders = {
        harness.OURS: lambda: thfr_ext.au_spro(images, regions, saturations, LIMITS)[0.05],
        "NumPy argsort": lambda: rivals.argsort_au_spro(images, regions, saturations, LIMITS)[1],
        LOOP: lambda: rivals.threshold_au_spro(images, regions, saturations, LIMITS)[1],
    }
    size = 4 * maps.size + sum(r.size for r in regions)
    return harness.Work(calls, size, 0, unlike)


def make_auroc(count: int, side: int) -> harness.Work:
    maps, masks = make_images(count, side, side)
    calls: harness.Contenders = {
        harness.OURS: lambda: thfr_ext.auroc(maps, masks),
        "NumPy argsort": lambda: rivals.argsort_auroc(maps, masks),
    }
    if peers.load("sklearn") is not None:
        from sklearn.metrics import roc_auc_score

        calls["scikit-learn"] = lambda: roc_auc_score(masks.ravel(), maps.ravel())
    if peers.load("torchmetrics") is not None:
        from torchmetrics.functional.classification import binary_auroc

        scores, marks = torch.from_numpy(maps).flatten(), torch.from_numpy(masks).flatten().int()
        calls["torchmetrics"] = lambda: binary_auroc(scores, marks, validate_args=False)
    return harness.Work(calls, 5 * maps.size, 0, unlike)


def make_labels(count: int, side: int) -> harness.Work:
    """All images' labels are kept: theirs are int32, ours int64 as torch indexes with."""
    _, masks = make_images(count, side, side)
    eight = np.ones((3, 3))
    calls: harness.Contenders = {
        harness.OURS: lambda: thfr_ext.label_regions(masks)[1].sum(),
        "SciPy": lambda: sum(n for _, n in [ndimage.label(mask, eight) for mask in masks]),
    }
    from skimage.measure import label

    calls["scikit-image"] = lambda: sum(n for _, n in [label(mask, 0, True, 2) for mask in masks])
    cc3d = peers.load("cc3d")
    if cc3d is not None:
        calls["cc3d"] = lambda: sum(
            n for _, n in [cc3d.connected_components(mask, connectivity=8, return_N=True) for mask in masks]
        )
    return harness.Work(calls, masks.size, 0, unlike)


def cases() -> list[harness.Case]:
    return [
        harness.Case("au_pro 20x512x512", partial(make_pro, 20, 512)),
        harness.Case(
            "au_pro 100x512x512", partial(make_pro, 100, 512), (("NumPy argsort", 15), ("NumPy argsort", 40))
        ),
        harness.Case("au_pro 100x512x512, 12th power", partial(make_pro, 100, 512, 12)),
        harness.Case(
            "au_spro, five limits, 16x1000x1600",
            partial(make_spro, 16),
            (("NumPy argsort", 10), (LOOP, 60)),
        ),
        harness.Case("auroc of pixels 100x512x512", partial(make_auroc, 100, 512)),
        harness.Case("label_regions 100x512x512", partial(make_labels, 100, 512)),
    ]


@pytest.mark.parametrize(
    "case", [case for case in cases() if "100x" not in case.name], ids=lambda case: case.name
)
def test_sweep(benchmark: Any, case: harness.Case) -> None:
    harness.bench(benchmark, case)
