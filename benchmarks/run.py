"""One command for every benchmark: a table with ratios, floors, memory and percentiles, and a JSON record.

    python benchmarks/run.py                          everything (about 15 minutes on two cores)
    python benchmarks/run.py sweep --out FILE.json    one component
    python benchmarks/run.py --cases "au_pro 100"     cases whose name contains a text
    python benchmarks/run.py --growth                 how cost grows with size and threads

Alternatives that are not installed are left out and named: `pip install .[bench]` brings those that install
beside torch; anomalib is used if it is there.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import platform
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import bench_cuda
import bench_retrieval
import bench_scoring
import bench_sweep
import growth
import harness
import numpy as np
import peers
import torch
from records import write_records

import thfr_ext

COMPONENTS = {"scoring": bench_scoring, "retrieval": bench_retrieval, "sweep": bench_sweep}
ALL_COMPONENTS = {**COMPONENTS, "cuda": bench_cuda}  # the last one only where it is named


def machine() -> dict[str, Any]:
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    models = {line.split(":")[1].strip() for line in lines if line.startswith("model name")}
    build = thfr_ext.build_info()
    return {
        "date": time.strftime("%Y-%m-%d"),
        "processor": ", ".join(sorted(models)) or platform.processor(),
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": np.__version__,
        "thfr_ext": build["version"],
        "compiler": build["compiler"],
        "simd": build["simd"],
        "cuda": {**build["cuda"], "backend": build["backend"]} if torch.cuda.is_available() else {},
        "peers": peers.versions(),
    }


def load_before() -> float | None:
    """Processes that wanted a core in the last minute: above 0.5 the figures are of a busy machine."""
    return round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None


def all_cases(threads: int | None = None) -> dict[str, harness.Case]:
    """Each with the threads of its own unless told."""
    cases = [case for module in ALL_COMPONENTS.values() for case in module.cases()]
    return {case.name: dataclasses.replace(case, threads=threads or case.threads) for case in cases}


def in_process(*arguments: str) -> Any:
    """The JSON that a run of this file in a process of its own ends with."""
    done = subprocess.run(
        [sys.executable, __file__, *arguments], capture_output=True, text=True, env=os.environ, check=False
    )
    if done.returncode != 0:
        raise SystemExit(f"run.py: {' '.join(arguments)} failed:\n{done.stderr}")
    return json.loads(done.stdout.splitlines()[-1])


def run_case(case: harness.Case, budget: float, with_memory: bool) -> dict[str, Any]:
    """On the CPU each has a process of its own: memory that another one has left would be used again."""
    apart = case.device == "cpu"
    threads = ("--threads", str(case.threads))
    time = ("--time", case.name, "--budget", str(budget), *threads)
    result = in_process(*time) if apart else harness.measure(case, budget)
    if with_memory:
        for name, one in result["contenders"].items():
            memory = ("--memory", case.name, name, *threads)
            one["peak_bytes"] = in_process(*memory) if apart else harness.memory(case, name)
    return result


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "components",
        nargs="*",
        metavar="COMPONENT",
        help=f"of {', '.join(ALL_COMPONENTS)}; default: all but cuda",
    )
    parser.add_argument("--cases", metavar="TEXT", default="", help="only cases with TEXT in their name")
    parser.add_argument("--budget", type=float, default=6, metavar="SECONDS", help="for a case, about")
    parser.add_argument("--threads", type=int, metavar="N", help="of every case (default: its own)")
    parser.add_argument("--no-memory", action="store_true", help="leave out the peaks of memory")
    parser.add_argument("--growth", action="store_true", help="how cost grows, instead of the cases")
    parser.add_argument("--out", type=Path, metavar="FILE", help="where to write the record as JSON")
    parser.add_argument("--time", metavar="CASE", help=argparse.SUPPRESS)
    parser.add_argument("--memory", nargs=2, metavar=("CASE", "CONTENDER"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    for component in arguments.components:
        if component not in ALL_COMPONENTS:
            parser.error(f"COMPONENT: expected one of {', '.join(ALL_COMPONENTS)}, got {component!r}")
        if component == "cuda" and not torch.cuda.is_available():
            parser.error("COMPONENT: cuda needs a CUDA device, and torch sees none")
    return arguments


def main() -> None:
    arguments = parse()
    if arguments.time:
        case = all_cases(arguments.threads)[arguments.time]
        print(json.dumps(harness.measure(case, arguments.budget)))
        return
    if arguments.memory:
        name, contender = arguments.memory
        print(json.dumps(harness.memory(all_cases(arguments.threads)[name], contender)))
        return

    record: dict[str, Any] = {"machine": machine(), "load_before": load_before()}
    print(json.dumps(record, indent=1), flush=True)
    if arguments.growth:
        record["growth"] = growth.measure_all()
    else:
        modules = [ALL_COMPONENTS[component] for component in arguments.components or COMPONENTS]
        names = [c.name for module in modules for c in module.cases() if arguments.cases in c.name]
        chosen = [all_cases(arguments.threads)[name] for name in names]
        record["cases"] = []
        for i, case in enumerate(chosen):
            print(f"[{i + 1}/{len(chosen)}] {case.name} ...", file=sys.stderr, flush=True)
            result = run_case(case, arguments.budget, not arguments.no_memory)
            record["cases"].append(result)
            if arguments.out:  # at once: a run that is stopped keeps what it has
                write_records(arguments.out, record)
            print("\n".join(["", *harness.table(result)]), flush=True)
    if arguments.out:
        write_records(arguments.out, record)
        print(f"\nrecord: {arguments.out}")


if __name__ == "__main__":
    main()
