"""Threads for decoding: Pillow lets go of the interpreter lock while it decodes and resizes."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from tqdm import tqdm

BLOCK = 4096
"""Items that are handed to the pool at once: each costs more than a kilobyte while it waits."""

Item = TypeVar("Item")
Result = TypeVar("Result")


def usable_cpus() -> int:
    """The processors this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def parallel_map(
    function: Callable[[Item], Result],
    items: Sequence[Item],
    *,
    threads: int | None = None,
    progress: bool = False,
    description: str = "",
) -> list[Result]:
    """``[function(item) for item in items]`` on ``threads`` threads (default: one a processor, at most 16).

    The first exception, by order of items, is raised, and what has not begun is dropped.
    """
    pool = ThreadPoolExecutor(max_workers=threads or min(16, usable_cpus()))
    try:
        blocks = (items[start : start + BLOCK] for start in range(0, len(items), BLOCK))
        results = (result for block in blocks for result in pool.map(function, block))
        return list(tqdm(results, total=len(items), desc=description, disable=not progress, leave=False))
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
