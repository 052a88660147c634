"""What every benchmark here is made of: cases, their contenders, how time and memory are measured.

A case is one task at one size; its first contender is ``thfr_ext``, the others are named alternatives that
solve the same task. ``bytes`` is the floor: what a contender must read at the least. Contenders of a case
are timed in turn, round by round, in one process, so that a ratio compares what ran side by side.
"""

from __future__ import annotations

import ctypes
import gc
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

OURS = "thfr_ext"
Contenders = dict[str, Callable[[], Any]]


@dataclass(frozen=True)
class Work:
    """The inputs of a case, made, and what is timed on them."""

    contenders: Contenders
    bytes: int
    flops: int = 0
    #: of all results, the largest difference to ``thfr_ext`` of a contender that should give the same
    differences: Callable[[dict[str, Any]], dict[str, float]] = lambda results: {}
    #: what else is worth a line
    facts: Callable[[], dict[str, float]] = dict
    #: contenders that are no rival: a floor, or a task made easier
    notes: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Case:
    """``target``: (contender or "best", least ratio of its time to ours, as the project's plan asks)."""

    name: str
    make: Callable[[], Work]
    targets: tuple[tuple[str, float], ...] = ()
    threads: int = 2
    device: str = "cpu"  # or "cuda"


def rounds(budget: float, slowest: float, least: int, most: int = 200) -> int:
    return int(min(max(budget / max(slowest, 1e-6), least), most))


def seconds_of(call: Callable[[], Any], device: str) -> tuple[float, Any]:
    """A call's time, and what it gave. On a GPU: between two events of its stream, launches included."""
    if device == "cpu":
        start = time.perf_counter()
        result = call()
        return time.perf_counter() - start, result
    begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    torch.cuda.synchronize()
    begin.record()
    result = call()
    end.record()
    end.synchronize()
    return begin.elapsed_time(end) / 1e3, result


def time_contenders(
    contenders: Contenders, budget: float, device: str = "cpu"
) -> tuple[dict[str, list[float]], dict[str, Any]]:
    """Seconds of each call, and what the last ones gave. Every round calls each contender, fast ones more
    often. The first call, which may compile, load or fill a cache, does not count; those that take over a
    second have two calls that do, and no more."""
    results: dict[str, Any] = {}

    def timed(name: str) -> float:
        seconds, results[name] = seconds_of(contenders[name], device)
        return seconds

    for name in contenders:
        timed(name)
    typical = {name: timed(name) for name in contenders}
    times: dict[str, list[float]] = {name: [] for name in contenders}
    slow = [name for name, seconds in typical.items() if seconds > 1]
    for name in slow:
        times[name] = [typical[name], timed(name)]
    quick = [name for name in contenders if name not in slow]
    for _ in range(count := rounds(budget, sum(typical[name] for name in quick), 3)):
        for name in quick:
            often = rounds(budget / count / len(quick), typical[name], 1, 20)
            times[name] += [timed(name) for _ in range(often)]
    return times, results


def percentiles(times: Sequence[float]) -> dict[str, float]:
    return {f"p{p}": float(np.percentile(times, p)) for p in (50, 95, 99)} | {"runs": len(times)}


def peak_growth(call: Callable[[], Any]) -> int | None:
    """Bytes by which this process's peak memory grows during a call; None where the system does not say."""
    reset, status = Path("/proc/self/clear_refs"), Path("/proc/self/status")
    if not reset.exists():
        return None

    def peak() -> int:
        return int(status.read_text().split("VmHWM:")[1].split()[0]) * 1024

    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)  # memory that is free but not given back would hide what the call takes
    reset.write_text("5")
    before = peak()
    call()
    return peak() - before


def peak_on_device(call: Callable[[], Any]) -> int:
    """Bytes that torch allocates on the GPU at the most during a call, beyond what was there before."""
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    call()
    torch.cuda.synchronize()
    return torch.cuda.max_memory_allocated() - before


def read_bandwidth(device: str) -> dict[str, float]:
    """Bytes a second of reading (a sum) and of copying (read and written bytes) 256 MiB, the best of some."""
    block = torch.ones(64 * 2**20, device=device)
    target = torch.empty_like(block)

    def best(call: Callable[[], Any]) -> float:
        return min(time_contenders({"": call}, 0.5, device)[0][""])

    size = block.numel() * 4
    return {"read": size / best(block.sum), "copy": 2 * size / best(lambda: target.copy_(block))}


def measure(case: Case, budget: float) -> dict[str, Any]:
    """Times of every contender of a case, and what they are held against."""
    torch.set_num_threads(case.threads)
    work = case.make()
    seconds, results = time_contenders(work.contenders, budget, case.device)
    times = {name: percentiles(t) for name, t in seconds.items()}
    ours = times[OURS]["p50"]
    for name, one in times.items():
        one["ratio"] = one["p50"] / ours
        if name in work.notes:
            one["note"] = work.notes[name]
    bandwidth = read_bandwidth(case.device)
    return {
        "case": case.name,
        "device": case.device,
        "threads": case.threads,
        "bytes": work.bytes,
        # a copy's bytes on a GPU, where a sum does not reach the memory's speed
        "floor_seconds": work.bytes / bandwidth["read" if case.device == "cpu" else "copy"],
        "gb_per_second": work.bytes / ours / 1e9,
        **({"gflop_per_second": work.flops / ours / 1e9} if work.flops else {}),
        "bandwidth": bandwidth,
        "contenders": times,
        "differences": work.differences(results),
        "facts": work.facts(),
        "targets": [check(target, times, work.notes) for target in case.targets],
    }


def check(target: tuple[str, float], times: dict[str, Any], notes: dict[str, str]) -> dict[str, Any]:
    name, least = target
    rivals = [t["ratio"] for n, t in times.items() if n != OURS and n not in notes]
    reached = min(rivals) if name == "best" else times[name]["ratio"] if name in times else None
    return {
        "against": name,
        "asked": least,
        "reached": reached,
        "met": reached is not None and reached >= least,
    }


def memory(case: Case, contender: str) -> int | None:
    """Growth of the peak during a call; ours has had one before, which fills its cache of matrices."""
    torch.set_num_threads(case.threads)
    work = case.make()
    call = work.contenders[contender]
    if contender == OURS:
        call()
    return peak_growth(call) if case.device == "cpu" else peak_on_device(call)


def table(result: dict[str, Any]) -> Iterator[str]:
    floor = result["floor_seconds"]
    speed = f"{result['gb_per_second']:.1f} GB/s"
    if "gflop_per_second" in result:
        speed += f", {result['gflop_per_second']:.0f} GFLOP/s"
    where = f"{result['threads']} threads" if result["device"] == "cpu" else result["device"]
    yield (
        f"{result['case']}  ({where}; floor: {result['bytes'] / 1e6:.1f} MB, "
        f"{1e3 * floor:.3f} ms; {OURS} reaches {speed})"
    )
    heads = f"{'p50 ms':>10}{'p95':>10}{'p99':>10}{'runs':>6}{'ratio':>8}{'x floor':>9}{'peak MB':>10}"
    yield f"  {'':<34}{heads}"
    for name, one in result["contenders"].items():
        extra = one.get("peak_bytes")
        peak = "" if extra is None else f"{extra / 1e6:.1f}"
        note = f"  {one['note']}" if "note" in one else ""
        yield (
            f"  {name:<34}{1e3 * one['p50']:>10.2f}{1e3 * one['p95']:>10.2f}{1e3 * one['p99']:>10.2f}"
            f"{one['runs']:>6}{one['ratio']:>8.2f}{one['p50'] / floor:>9.1f}{peak:>10}{note}"
        )
    for name, difference in result["differences"].items():
        yield f"  difference to {name}: {difference:.1e}"
    for name, fact in result["facts"].items():
        yield f"  {name}: {fact:.4g}"
    for target in result["targets"]:
        reached = "not measured" if target["reached"] is None else f"{target['reached']:.2f}"
        verdict = "met" if target["met"] else "MISSED"
        yield f"  target: {target['asked']:g} times as fast as {target['against']}: {reached}, {verdict}"


def bench(benchmark: Any, case: Case) -> None:
    """A case in pytest-benchmark: ours is timed, the alternatives' ratios are in ``extra_info``."""
    torch.set_num_threads(case.threads)
    work = case.make()
    benchmark.group = case.name
    benchmark.pedantic(work.contenders[OURS], rounds=5, warmup_rounds=1)
    others = {name: call for name, call in work.contenders.items() if name != OURS}
    benchmark.extra_info |= {
        "threads": case.threads,
        "bytes": work.bytes,
        "gb_per_second": work.bytes / benchmark.stats.stats.median / 1e9,
        "ratios": {
            name: min(times) / benchmark.stats.stats.min
            for name, times in time_contenders(others, 1)[0].items()
        },
    }
