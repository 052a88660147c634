"""How the cost of the operators grows: one size at a time, everything else held, on 1 and 2 threads."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import harness
import numpy as np
import torch
from sweep_rivals import LIMITS, make_images

import thfr_ext

Point = tuple[int, Callable[[], Any]]


def images() -> Iterator[Point]:
    maps, masks = make_images(160, 256, 256)
    for count in (10, 20, 40, 80, 160):
        yield count, lambda n=count: thfr_ext.au_pro(maps[:n], masks[:n])


def pixels() -> Iterator[Point]:
    for side in (64, 128, 256, 512, 1024, 2048):
        maps, masks = make_images(4, side, side)
        yield 4 * side * side, lambda m=maps, k=masks: thfr_ext.au_pro(m, k)


def regions() -> Iterator[Point]:
    """Squares of 4 x 4 pixels in eight maps of 512 x 512: from 8 to 30,752 regions."""
    maps, _ = make_images(8, 512, 512)
    for side in (1, 4, 16, 62):
        masks = np.zeros(maps.shape, bool)
        for y in range(side):
            for x in range(side):
                masks[:, 8 * y + 2 : 8 * y + 6, 8 * x + 2 : 8 * x + 6] = True
        yield 8 * side * side, lambda k=masks: thfr_ext.au_pro(maps, k, 1.0)


def limits() -> Iterator[Point]:
    maps, masks = make_images(20, 512, 512)
    stacks = [mask[None] if mask.any() else np.zeros((0, 512, 512), bool) for mask in masks]
    saturations = [[max(int(r.sum()), 1) for r in stack] for stack in stacks]
    for count in range(1, 6):
        yield count, lambda n=count: thfr_ext.au_spro(list(maps), stacks, saturations, LIMITS[:n])


def bank_rows() -> Iterator[Point]:
    queries, bank = torch.randn(1, 128), torch.randn(1_000_000, 128)
    for rows in (1_000, 10_000, 100_000, 1_000_000):
        yield rows, lambda n=rows: thfr_ext.nearest_templates(queries, bank[:n])


def queries() -> Iterator[Point]:
    rows, bank = torch.randn(1024, 1536), torch.randn(4_000, 1536)
    for count in (1, 4, 8, 9, 16, 64, 256, 1024):
        yield count, lambda n=count: thfr_ext.nearest_templates(rows[:n], bank)


def neighbours() -> Iterator[Point]:
    rows, bank = torch.randn(64, 256), torch.randn(10_000, 256)
    for k in (1, 10, 100, 1_000, 10_000):
        yield k, lambda n=k: thfr_ext.nearest_templates(rows, bank, n)


def coreset_size() -> Iterator[Point]:
    bank = torch.randn(20_000, 512)
    for size in (10, 50, 250):
        yield size, lambda n=size: thfr_ext.greedy_coreset(bank, n)


def batch() -> Iterator[Point]:
    shapes = ((256, 64, 64), (512, 32, 32), (1024, 16, 16))
    levels = [[torch.randn(32, *shape) for shape in shapes] for _ in range(2)]
    for count in (1, 4, 16, 32):
        features, restored = ([t[:count] for t in side] for side in levels)
        yield count, lambda f=features, r=restored: thfr_ext.anomaly_map(f, r, (256, 256))


SERIES = {
    "au_pro, images of 256x256": images,
    "au_pro, pixels of four images": pixels,
    "au_pro, regions in 8x512x512": regions,
    "au_spro, limits, 20x512x512": limits,
    "nearest_templates, bank rows (1 query, D 128)": bank_rows,
    "nearest_templates, queries (4,000 rows, D 1536)": queries,
    "nearest_templates, k (64 queries, 10,000 rows, D 256)": neighbours,
    "greedy_coreset, size (20,000 x 512)": coreset_size,
    "anomaly_map, batch (WideResNet50 shapes to 256x256)": batch,
}


def measure_all() -> dict[str, list[dict[str, float]]]:
    """name -> rows of size, milliseconds (median) with one thread and with two."""
    found: dict[str, list[dict[str, float]]] = {}
    for name, series in SERIES.items():
        print(f"\n{name}\n{'size':>12}{'1 thread ms':>14}{'2 threads ms':>14}", flush=True)
        found[name] = []
        for size, call in series():
            row: dict[str, float] = {"size": size}
            for threads in (1, 2):
                torch.set_num_threads(threads)
                times = harness.time_contenders({harness.OURS: call}, 0.7)[0][harness.OURS]
                row[f"threads_{threads}_ms"] = 1e3 * float(np.median(times))
            found[name].append(row)
            print(f"{size:>12,}{row['threads_1_ms']:>14.3f}{row['threads_2_ms']:>14.3f}", flush=True)
    return found
