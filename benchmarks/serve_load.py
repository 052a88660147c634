"""Load on ``thfr serve`` over loopback: requests per second and latencies at 1, 4 and 16 clients.

    thfr serve RUN --port 8008 &
    python benchmarks/serve_load.py http://127.0.0.1:8008 part.png --requests 200
    python benchmarks/serve_load.py http://127.0.0.1:8008 part.png --requests 10000 --clients 8 --pid $!

Each client keeps one connection and sends its next request when the answer to the last has come.
"""

from __future__ import annotations

import argparse
import asyncio
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import httpx
import numpy as np


def resident(pid: int) -> int:
    """MiB of memory that a process holds."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * 4096 >> 20


async def load(
    url: str, body: bytes, clients: int, requests: int, told: Callable[[int], None] = lambda done: None
) -> tuple[float, np.ndarray, Counter[int]]:
    """Requests per second, seconds of each request [N], and how often each status came.

    ``told``: called with the number of requests that are done.
    """
    seconds: list[float] = []
    statuses: Counter[int] = Counter()
    left = iter(range(requests))

    async def client() -> None:
        async with httpx.AsyncClient(base_url=url, timeout=120) as session:
            for _ in left:
                started = time.perf_counter()
                statuses[(await session.post("/v1/inspect", content=body)).status_code] += 1
                seconds.append(time.perf_counter() - started)
                told(len(seconds))

    started = time.perf_counter()
    await asyncio.gather(*(client() for _ in range(clients)))
    return requests / (time.perf_counter() - started), np.array(seconds), statuses


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("url")
    parser.add_argument("image", type=Path)
    parser.add_argument("--requests", type=int, default=200, help="at each number of clients")
    parser.add_argument("--clients", type=int, nargs="+", default=[1, 4, 16])
    parser.add_argument("--pid", type=int, help="of the service: its resident memory is shown (Linux)")
    args = parser.parse_args()
    body = args.image.read_bytes()
    asyncio.run(load(args.url, body, 1, 5))
    print("clients  requests/s  p50 ms  p95 ms  p99 ms  statuses")
    for clients in args.clients:
        curve: list[int] = []

        def told(done: int, curve: list[int] = curve) -> None:
            if args.pid is not None and done % max(1, args.requests // 20) == 0:
                curve.append(resident(args.pid))

        rate, seconds, statuses = asyncio.run(load(args.url, body, clients, args.requests, told))
        quantiles = np.quantile(seconds * 1000, (0.5, 0.95, 0.99))
        shown = "  ".join(f"{value:6.0f}" for value in quantiles)
        print(f"{clients:7d}  {rate:10.1f}  {shown}  {dict(statuses)}", flush=True)
        if curve:
            print(f"         resident MiB: {' '.join(map(str, curve))}", flush=True)


if __name__ == "__main__":
    main()
