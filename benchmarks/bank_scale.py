"""What a bank in shards on disk costs from 10^4 to 10^7 rows: seconds of a search, memory, bytes.

    python benchmarks/bank_scale.py --folder SCRATCH [--width 384] [--most 10000000] [--keys fp16]

Each size is searched in a process of its own, whose peak memory beyond its imports is told. 10^7 rows of 384
values take 7.7 GB of ``--folder``; every bank is removed once it has been searched.
"""

from __future__ import annotations

import argparse
import json
import math
import multiprocessing
import shutil
import time
from pathlib import Path
from typing import Any

import torch
from thfr.banks import BankWriter, ShardedBank

_BLOCK = 1 << 16


def write(folder: Path, rows: int, width: int, keys: str) -> float:
    """A bank of made-up rows; gives seconds. One block of random rows is turned about for each piece: random
    numbers would take longer than everything else.
    """
    generator = torch.Generator().manual_seed(0)
    block = torch.randn(min(rows, _BLOCK), width, generator=generator)
    started = time.monotonic()
    with BankWriter(folder, width, "l2", keys) as writer:
        for begin in range(0, rows, _BLOCK):
            signs = torch.randint(0, 2, (width,), generator=generator) * 2.0 - 1
            writer.add(block.roll(begin // _BLOCK % width, 1)[: rows - begin] * signs)
    return time.monotonic() - started


def peak_memory() -> int:
    """The largest resident memory of this process since it began, in bytes (Linux). ``getrusage`` would count
    that of its parent, too.
    """
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))


def search(folder: str, width: int, queries: int, threads: int, answer: Any) -> None:
    torch.set_num_threads(threads)
    given = torch.randn(queries, width, generator=torch.Generator().manual_seed(1))
    before, bank = peak_memory(), ShardedBank(folder)
    seconds = []
    for _ in range(2):  # from the disk, or as the system keeps it; then from the system's cache where it fits
        started = time.monotonic()
        bank.search(given, 3)
        seconds.append(time.monotonic() - started)
    answer.send({"seconds": [round(one, 3) for one in seconds], "memory": peak_memory() - before})


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--width", type=int, default=384)
    parser.add_argument("--most", type=int, default=10**7)
    parser.add_argument("--queries", type=int, default=16)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--keys", choices=("fp16", "int8"), default="fp16")
    options = parser.parse_args()
    context = multiprocessing.get_context("spawn")
    sizes = [size for size in (10**power for power in range(4, 9)) if size <= options.most]
    points: list[tuple[int, float]] = []
    for size in sizes:
        folder = options.folder / f"bank{size}"
        shutil.rmtree(folder, ignore_errors=True)
        written = write(folder, size, options.width, options.keys)
        ours, theirs = context.Pipe()
        given = (str(folder), options.width, options.queries, options.threads, theirs)
        child = context.Process(target=search, args=given)
        child.start()
        found = ours.recv()
        child.join()
        used = sum(path.stat().st_size for path in folder.iterdir())
        shutil.rmtree(folder)
        points.append((size, found["seconds"][1]))
        line = {"rows": size, "bytes": used, "write_seconds": round(written, 2), **found}
        print(json.dumps({"keys": options.keys, "queries": options.queries, **line}), flush=True)
    last = points[-2:]
    if len(last) == 2:  # of log seconds over log rows: 1 is linear
        slope = math.log(last[1][1] / last[0][1]) / math.log(last[1][0] / last[0][0])
        print(json.dumps({"slope": round(slope, 3)}))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
