"""The sweeps against sorting every pixel with NumPy.

    pytest benchmarks/bench_sweep.py          times, with pytest-benchmark
    python benchmarks/bench_sweep.py          times, ratios and peak memory of each in a process of its own

The floor is one read of every score and mask byte: 5 bytes a pixel for AU-PRO.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy import ndimage

import thfr_ext

LIMITS = (0.01, 0.05, 0.1, 0.3, 1.0)


def make_images(count: int, height: int, width: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Smooth float32 maps and blobs for masks; a third of the images are good; scores rise in blobs."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.rand(count, 1, height // 16, width // 16, generator=generator)
    maps = torch.nn.functional.interpolate(coarse, (height, width), mode="bicubic", align_corners=False)[:, 0]
    blobs = torch.nn.functional.interpolate(
        torch.rand(count, 1, height // 64, width // 64, generator=generator), (height, width), mode="bilinear"
    )[:, 0]
    masks = blobs > 0.87
    masks[::3] = False
    noise = 0.05 * torch.rand(maps.shape, generator=generator)
    return ((maps + noise + 0.4 * masks) ** 3).numpy(), masks.numpy()


def argsort_areas(
    scores: np.ndarray, negatives: np.ndarray, weights: np.ndarray, limits: Sequence[float]
) -> list[float]:
    """Sort all pixels, add up both axes, keep the last point of each tie, integrate to the limits."""
    order = np.argsort(scores)[::-1]
    fpr = np.cumsum(negatives[order], dtype=np.float64) / negatives.sum()
    overlap = np.cumsum(weights[order], dtype=np.float64)
    last = np.append(np.diff(scores[order]) != 0, True)
    fpr, overlap = np.append(0, fpr[last]), np.append(0, np.minimum(overlap[last], 1))
    areas = []
    for limit in limits:
        x = np.append(fpr[fpr < limit], limit)
        areas.append(
            float(np.trapezoid(np.append(overlap[fpr < limit], np.interp(limit, fpr, overlap)), x) / limit)
        )
    return areas


def argsort_au_pro(maps: np.ndarray, masks: np.ndarray, limit: float) -> float:
    weights = np.zeros(maps.shape)
    regions = 0
    for image, mask in zip(weights, masks, strict=True):
        labels, count = ndimage.label(mask, np.ones((3, 3)))
        areas = np.bincount(labels.ravel())
        image[mask] = 1 / areas[labels[mask]]
        regions += count
    return argsort_areas(maps.ravel(), ~masks.ravel(), weights.ravel() / regions, [limit])[0]


def argsort_au_spro(maps: Any, regions: Any, saturations: Any, limits: Sequence[float]) -> list[float]:
    weights = [np.zeros(m.shape) for m in maps]
    for scores, weight, masks, counts in zip(maps, weights, regions, saturations, strict=True):
        for mask, saturation in zip(masks, counts, strict=True):
            inside = np.flatnonzero(mask)
            top = inside[np.argsort(scores.ravel()[inside])[::-1][:saturation]]
            weight.ravel()[top] += 1 / saturation
    negatives = np.concatenate([~masks.any(0).ravel() for masks in regions])
    total = sum(len(counts) for counts in saturations)
    scores = np.concatenate([m.ravel() for m in maps])
    return argsort_areas(scores, negatives, np.concatenate([w.ravel() for w in weights]) / total, limits)


def pro_case(count: int) -> tuple[Callable[[], float], Callable[[], float], int]:
    maps, masks = make_images(count, 512, 512)
    return lambda: thfr_ext.au_pro(maps, masks), lambda: argsort_au_pro(maps, masks, 0.3), maps.size


def spro_case(count: int) -> tuple[Callable[[], float], Callable[[], float], int]:
    maps, masks = make_images(count, 1000, 1600)
    regions, saturations = [], []
    for mask in masks:
        labels, found = ndimage.label(mask, np.ones((3, 3)))
        stack = (
            np.stack([labels == i + 1 for i in range(min(found, 3))])
            if found
            else np.zeros((0, *mask.shape), bool)
        )
        regions.append(stack)
        saturations.append([max(int(region.sum()) // (i + 1), 1) for i, region in enumerate(stack)])
    return (
        lambda: thfr_ext.au_spro(list(maps), regions, saturations, LIMITS)[0.05],
        lambda: argsort_au_spro(maps, regions, saturations, LIMITS)[1],
        maps.size,
    )


CASES: dict[str, Callable[[], tuple[Callable[[], float], Callable[[], float], int]]] = {
    "au_pro 20x512x512": lambda: pro_case(20),
    "au_pro 100x512x512": lambda: pro_case(100),
    "au_spro 16x1000x1600": lambda: spro_case(16),
}


@pytest.mark.parametrize("name", ["au_pro 20x512x512", "au_spro 16x1000x1600"])
def test_sweep(benchmark: Any, name: str) -> None:
    ours, theirs, pixels = CASES[name]()
    assert abs(benchmark.pedantic(ours, rounds=5, warmup_rounds=1) - theirs()) < 1e-9
    benchmark.extra_info["megapixels_a_second"] = pixels / benchmark.stats.stats.median / 1e6


def peak_bytes() -> int:
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) * 1024


def measure(name: str, side: int, rounds: int) -> dict[str, float]:
    """Median seconds (clock and processor) and peak extra bytes a pixel of ours (0) or NumPy's (1)."""
    pair = CASES[name]()
    run, pixels = pair[side], pair[2]
    Path("/proc/self/clear_refs").write_text("5")  # the peak so far is forgotten
    before = peak_bytes()
    value, times, cpu = 0.0, [], []
    for _ in range(rounds):
        start, used = time.perf_counter(), time.process_time()
        value = run()
        times.append(time.perf_counter() - start)
        cpu.append(time.process_time() - used)
    extra = (peak_bytes() - before) / pixels
    seconds, cpu_seconds = float(np.median(times)), float(np.median(cpu))
    return {"value": value, "seconds": seconds, "best": min(times), "cpu": cpu_seconds, "bytes": extra}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--one", nargs=3, metavar=("CASE", "SIDE", "ROUNDS"), help=argparse.SUPPRESS)
    parser.add_argument("--cases", nargs="*", default=list(CASES), choices=list(CASES))
    arguments = parser.parse_args()
    if arguments.one:
        name, side, rounds = arguments.one
        print(json.dumps(measure(name, int(side), int(rounds))))
        return
    print(
        f"{torch.get_num_threads()} threads; seconds are medians; bytes a pixel: growth of the process's peak"
    )
    for name in arguments.cases:
        command = [sys.executable, __file__, "--one", name]
        ours, theirs = (
            json.loads(subprocess.run([*command, *rest], check=True, capture_output=True, text=True).stdout)
            for rest in (["0", "9"], ["1", "2"])
        )
        print(
            f"{name}: {ours['seconds']:.4f} s (best {ours['best']:.4f}, processor {ours['cpu']:.4f}), "
            f"NumPy {theirs['seconds']:.2f} s ({theirs['cpu']:.2f}), "
            f"{theirs['seconds'] / ours['seconds']:.0f} times ({theirs['cpu'] / ours['cpu']:.0f}); "
            f"{ours['bytes']:.1f} and {theirs['bytes']:.1f} bytes a pixel; "
            f"difference {abs(ours['value'] - theirs['value']):.1e}"
        )


if __name__ == "__main__":
    main()
