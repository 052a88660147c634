"""The CUDA kernels beside what PyTorch offers on the same GPU.

python benchmarks/run.py cuda, as `make gpu-check` does

"copy of the bytes" moves as many bytes as the task must, half of them read and half written; "product
alone" is the matrix product without the selection: floors, no rivals.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import harness
import torch
from bench_scoring import SHAPES, SIGMA, SIZE, TAPS, eager_distance, eager_map, gradient
from torch import Tensor
from torch.nn.functional import normalize

import thfr_ext

DTYPES = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}
LAYOUTS = {"contiguous": torch.contiguous_format, "channels_last": torch.channels_last}
FLOOR = {"copy of the bytes": "a floor, no rival", "product alone": "a floor, no rival"}


def copy_of(size: int) -> Callable[[], Any]:
    """A copy that moves ``size`` bytes."""
    source = torch.zeros(size // 2, dtype=torch.uint8, device="cuda")
    target = torch.empty_like(source)
    return lambda: target.copy_(source)


def bytes_of(*tensors: Tensor) -> int:
    return sum(t.numel() * t.element_size() for t in tensors)


def make_levels(batch: int, dtype: str, layout: str) -> tuple[list[Tensor], list[Tensor]]:
    generator = torch.Generator("cuda").manual_seed(0)

    def level(shape: tuple[int, ...]) -> Tensor:
        made = torch.randn((batch, *shape[1:]), generator=generator, device="cuda")
        return made.to(DTYPES[dtype]).contiguous(memory_format=LAYOUTS[layout])

    return [level(s) for s in SHAPES], [level(s) for s in SHAPES]


def make_distance(batch: int, dtype: str, layout: str) -> harness.Work:
    features, restored = make_levels(batch, dtype, layout)
    size = bytes_of(*features, *restored) + sum(4 * batch * t.shape[2] * t.shape[3] for t in features)
    calls: harness.Contenders = {
        harness.OURS: lambda: [thfr_ext.cosine_distance(*p) for p in zip(features, restored, strict=True)],
        "PyTorch eager": lambda: [eager_distance(*p) for p in zip(features, restored, strict=True)],
        "copy of the bytes": copy_of(size),
    }
    return harness.Work(calls, size, notes=FLOOR)


def make_loss(batch: int, dtype: str, layout: str) -> harness.Work:
    levels = make_levels(batch, dtype, layout)
    size = 2 * bytes_of(*levels[0], *levels[1]) + bytes_of(*levels[1])
    calls: harness.Contenders = {
        harness.OURS: lambda: gradient(thfr_ext.cosine_distance, *levels),
        "PyTorch eager": lambda: gradient(eager_distance, *levels),
        "copy of the bytes": copy_of(size),
    }
    return harness.Work(calls, size, notes=FLOOR)


def make_map(batch: int, dtype: str, layout: str) -> harness.Work:
    levels = make_levels(batch, dtype, layout)
    compiled, taps = torch.compile(eager_map), TAPS.cuda()
    size = bytes_of(*levels[0], *levels[1]) + 4 * batch * (SIZE[0] * SIZE[1] + 1)
    calls: harness.Contenders = {
        harness.OURS: lambda: thfr_ext.anomaly_map(*levels, SIZE, SIGMA),
        "PyTorch eager": lambda: eager_map(*levels, taps),
        "torch.compile": lambda: compiled(*levels, taps),
        "copy of the bytes": copy_of(size),
    }

    def unlike(results: dict[str, Any]) -> dict[str, float]:
        inner = (slice(None), slice(32, -32), slice(32, -32))  # the eager one mirrors borders differently
        ours, theirs = (results[name][0][inner] for name in (harness.OURS, "PyTorch eager"))
        return {"PyTorch eager, but for the borders": float((ours - theirs).abs().max())}

    return harness.Work(calls, size, 0, unlike, notes=FLOOR)


def best_rows(metric: str, queries: Tensor, bank: Tensor) -> tuple[Tensor, Tensor]:
    if metric == "l2":
        return torch.cdist(queries.float(), bank.float()).topk(1, largest=False)
    if metric == "cosine":
        queries, bank = normalize(queries), normalize(bank)
    return (queries.to(bank.dtype) @ bank.t()).topk(1)


def make_retrieval(count: int, rows: int, width: int, dtype: str, metric: str) -> harness.Work:
    generator = torch.Generator("cuda").manual_seed(0)
    bank = torch.randn(rows, width, generator=generator, device="cuda").to(DTYPES[dtype])
    queries = torch.randn(count, width, generator=generator, device="cuda").to(DTYPES[dtype])
    size = bytes_of(bank, queries)
    calls: harness.Contenders = {
        harness.OURS: lambda: thfr_ext.nearest_templates(queries, bank, 1, metric),
        "PyTorch + topk": partial(best_rows, metric, queries, bank),
        "copy of the bytes": copy_of(size),
        "product alone": lambda: queries @ bank.t(),
    }

    def unlike(results: dict[str, Any]) -> dict[str, float]:
        ours, theirs = (results[name][1] for name in (harness.OURS, "PyTorch + topk"))
        return {"PyTorch + topk, rows that differ": float((ours != theirs).float().mean())}

    return harness.Work(calls, size, 2 * count * rows * width, unlike, notes=FLOOR)


def loop_coreset(bank: Tensor, size: int) -> Tensor:
    chosen = torch.zeros(size, dtype=torch.int64, device=bank.device)
    nearest = torch.full((len(bank),), torch.inf, device=bank.device)
    for i in range(1, size):
        nearest = torch.minimum(nearest, (bank - bank[chosen[i - 1]]).square().sum(1))
        chosen[i] = nearest.argmax()
    return chosen


def make_coreset(rows: int, width: int, size: int) -> harness.Work:
    bank = torch.randn(rows, width, generator=torch.Generator("cuda").manual_seed(0), device="cuda")
    calls: harness.Contenders = {
        harness.OURS: lambda: thfr_ext.greedy_coreset(bank, size),
        "PyTorch loop": lambda: loop_coreset(bank, size),
    }
    return harness.Work(calls, size * bytes_of(bank))


LIMITS = (0.01, 0.05, 0.1, 0.3, 1.0)


def argsort_areas(scores: Tensor, weights: Tensor, regions: int) -> Tensor:
    """AU-sPRO by one full sort, all on the GPU; ``weights`` [P]: a pixel's share of its region, 0 outside."""
    order = scores.argsort(descending=True)
    weights = weights[order]
    negatives = (weights == 0).double().cumsum(0)
    overlap, fpr = weights.cumsum(0) / regions, negatives / negatives[-1]
    areas = [torch.trapezoid(overlap, fpr.clamp(max=limit)) / limit for limit in LIMITS]
    return torch.stack(areas)


def make_spro(count: int, height: int, width: int) -> harness.Work:
    generator = torch.Generator("cuda").manual_seed(0)
    maps = torch.rand(count, height, width, generator=generator, device="cuda")
    regions = torch.zeros(count, 1, height, width, dtype=torch.bool, device="cuda")
    regions[:, 0, height // 4 : height // 2, width // 4 : width // 2] = True
    maps[regions[:, 0]] *= 1.2
    area = (height // 2 - height // 4) * (width // 2 - width // 4)
    weights = regions[:, 0].double() / area
    arguments = (list(maps), list(regions), [[area]] * count)
    calls: harness.Contenders = {
        harness.OURS: lambda: thfr_ext.au_spro(*arguments, LIMITS),
        "torch argsort": lambda: argsort_areas(maps.flatten(), weights.flatten(), count).tolist(),
        "copy of the bytes": copy_of(bytes_of(maps, regions)),
    }

    def unlike(results: dict[str, Any]) -> dict[str, float]:
        ours = list(results[harness.OURS].values())
        return {"torch argsort": max(abs(a - b) for a, b in zip(ours, results["torch argsort"], strict=True))}

    return harness.Work(calls, bytes_of(maps, regions), 0, unlike, notes=FLOOR)


def cases() -> list[harness.Case]:
    case = partial(harness.Case, device="cuda")
    made = []
    for dtype in DTYPES:
        for layout in LAYOUTS:
            of = f"{dtype} {layout}"
            copy = (("copy of the bytes", 0.8),)
            made += [
                case(f"cuda distance, batch 8, {of}", partial(make_distance, 8, dtype, layout), copy),
                case(f"cuda distance, batch 32, {of}", partial(make_distance, 32, dtype, layout), copy),
                case(f"cuda loss and gradient, batch 8, {of}", partial(make_loss, 8, dtype, layout)),
                case(
                    f"cuda anomaly_map, batch 32, {of}",
                    partial(make_map, 32, dtype, layout),
                    (("PyTorch eager", 5), ("torch.compile", 1.5)),
                ),
            ]
    few, many = (("copy of the bytes", 0.75),), (("PyTorch + topk", 1.0), ("product alone", 0.6))
    for metric in ("dot", "l2", "cosine"):
        for dtype in ("fp32", "fp16"):
            of = f"{metric} {dtype}"
            made += [
                case(f"cuda 1x1000000x128 {of}", partial(make_retrieval, 1, 10**6, 128, dtype, metric), few),
                case(f"cuda 4x350x65536 {of}", partial(make_retrieval, 4, 350, 65536, dtype, metric), few),
                case(f"cuda 64x350x65536 {of}", partial(make_retrieval, 64, 350, 65536, dtype, metric)),
                case(
                    f"cuda 784x16000x1536 {of}",
                    partial(make_retrieval, 784, 16000, 1536, dtype, metric),
                    many if dtype == "fp16" else many[:1],
                ),
            ]
    made += [
        case(
            "cuda coreset 50000x512 to 500", partial(make_coreset, 50_000, 512, 500), (("PyTorch loop", 2),)
        ),
        case("cuda au_spro 16x1000x1600", partial(make_spro, 16, 1000, 1600), (("torch argsort", 20),)),
    ]
    return made
