"""Load on ``thfr serve`` over loopback: requests per second and latencies at 1, 4 and 16 clients.

    thfr serve RUN --port 8008 &
    python benchmarks/serve_load.py http://127.0.0.1:8008 part.png --requests 200

Each client keeps one connection and sends its next request when the answer to the last has come.
"""

from __future__ import annotations

import argparse
import asyncio
import time
from collections import Counter
from pathlib import Path

import httpx
import numpy as np


async def load(url: str, body: bytes, clients: int, requests: int) -> tuple[float, np.ndarray, Counter[int]]:
    """Requests per second, seconds of each request [N], and how often each status came."""
    seconds: list[float] = []
    statuses: Counter[int] = Counter()
    left = iter(range(requests))

    async def client() -> None:
        async with httpx.AsyncClient(base_url=url, timeout=120) as session:
            for _ in left:
                started = time.perf_counter()
                statuses[(await session.post("/v1/inspect", content=body)).status_code] += 1
                seconds.append(time.perf_counter() - started)

    started = time.perf_counter()
    await asyncio.gather(*(client() for _ in range(clients)))
    return requests / (time.perf_counter() - started), np.array(seconds), statuses


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("url")
    parser.add_argument("image", type=Path)
    parser.add_argument("--requests", type=int, default=200, help="at each number of clients")
    args = parser.parse_args()
    body = args.image.read_bytes()
    asyncio.run(load(args.url, body, 1, 5))
    print("clients  requests/s  p50 ms  p95 ms  p99 ms  statuses")
    for clients in (1, 4, 16):
        rate, seconds, statuses = asyncio.run(load(args.url, body, clients, args.requests))
        quantiles = np.quantile(seconds * 1000, (0.5, 0.95, 0.99))
        shown = "  ".join(f"{value:6.0f}" for value in quantiles)
        print(f"{clients:7d}  {rate:10.1f}  {shown}  {dict(statuses)}", flush=True)


if __name__ == "__main__":
    main()
