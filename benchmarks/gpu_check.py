"""Everything that needs a GPU, in one go: build, tests, compute-sanitizer, benchmarks, a record.

    make gpu-check                       with the python3 on PATH, which needs a torch for CUDA
    python3 benchmarks/gpu_check.py --out benchmarks/results --minutes 9

Each step runs although one before it has failed; the exit code is 1 then. Written to --out:
gpu-check-GPU.json (what ran, how it ended, kernels' registers), the benchmarks' records as far as they came,
and each step's log. The record is written after every step. The steps are bounded by --minutes together: what
is left over is named as not run. --only runs some of them. (No initcheck: buffers are partly unused by
design; `make emulate` fills new memory with NaN instead.)
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from records import write_records

ROOT = Path(__file__).resolve().parents[1]
STEPS = (
    "build",
    "tests",
    "self-check",
    "benchmarks",
    "latency",
    "ptxas",
    "memcheck",
    "racecheck",
)
KERNEL = re.compile(r"Compiling entry function '(?P<name>\S+)' for '(?P<arch>\w+)'")
USED = re.compile(r"Used (\d+) registers(?:.*?(\d+) bytes smem)?")
SPILLS = re.compile(r"(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads")


def kernels_of(log: str) -> list[dict[str, Any]]:
    """Of ``ptxas -v``: each kernel's registers a thread, shared bytes of a block, spilled bytes."""
    found: list[dict[str, Any]] = []
    for line in log.splitlines():
        if match := KERNEL.search(line):
            found.append({"kernel": match["name"], "arch": match["arch"]})
        elif found and (match := SPILLS.search(line)):
            found[-1] |= {"stack": int(match[1]), "spills": int(match[2]) + int(match[3])}
        elif found and (match := USED.search(line)):
            found[-1] |= {"registers": int(match[1]), "shared": int(match[2] or 0)}
    if demangle := shutil.which("cu++filt") or shutil.which("c++filt"):
        names = "\n".join(one["kernel"] for one in found)
        plain = subprocess.run([demangle], input=names, capture_output=True, text=True, check=True).stdout
        for one, name in zip(found, plain.splitlines(), strict=True):
            one["kernel"] = name
    return found


def ptxas(arch: str) -> list[dict[str, Any]]:
    """What each kernel takes on an architecture, such as "90"; needs nvcc, no GPU."""
    kernels: list[dict[str, Any]] = []
    for source in sorted((ROOT / "csrc").rglob("*.cu")):
        include = [f"-I{ROOT / 'csrc' / folder}" for folder in ("include", "")]
        options = ["-std=c++17", "-O3", f"-arch=sm_{arch}", "-Xptxas", "-v", "-c", "-o", os.devnull]
        command = ["nvcc", *options, *include, str(source)]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        kernels += kernels_of(done.stdout + done.stderr)
    return kernels


class Steps:
    """Commands one after another, within a common time; each one's log is kept."""

    def __init__(
        self, out: Path, seconds: float, only: list[str], write: Callable[[list[Any]], None]
    ) -> None:
        self.out, self.end, self.only, self.write = out, time.monotonic() + seconds, only, write
        self.record: list[dict[str, Any]] = []

    def note(self, **step: Any) -> None:
        self.record.append(step)
        self.write(self.record)

    def run(self, name: str, command: list[str], most: float, **environment: str) -> bool:
        if self.only and name not in self.only:
            return True
        left = min(most, self.end - time.monotonic())
        if left < 5:
            self.note(step=name, ended="not run: no time left")
            print(f"{name}: not run, no time left", flush=True)
            return False
        print(f"{name}: {' '.join(command)}", flush=True)
        begin, log = time.monotonic(), self.out / f"gpu-check-{name}.log"
        with log.open("w") as file:
            try:
                process = subprocess.Popen(
                    command,
                    cwd=self.out,  # not the sources, which would be imported
                    stdout=file,
                    stderr=subprocess.STDOUT,
                    env={**os.environ, **environment},
                    start_new_session=True,
                )
                try:
                    code: int | str = process.wait(timeout=left)
                except subprocess.TimeoutExpired:
                    code = "stopped: out of time"
                finally:  # whatever it has started too, so that nothing keeps the card
                    with contextlib.suppress(ProcessLookupError):
                        os.killpg(process.pid, signal.SIGKILL)
                    process.wait()
            except FileNotFoundError as error:
                code = f"not run: {error}"
        last = log.read_text(errors="replace").strip().splitlines()[-1:]
        seconds = round(time.monotonic() - begin, 1)
        self.note(step=name, ended=code, seconds=seconds, last_line="".join(last))
        print(f"  ended {code} after {seconds} s: {''.join(last)}", flush=True)
        return code == 0


def on_gpu() -> dict[str, Any]:
    import torch

    if not torch.cuda.is_available():
        raise SystemExit("gpu_check.py: torch sees no CUDA device here")
    major, minor = torch.cuda.get_device_capability()
    return {
        "date": time.strftime("%Y-%m-%d"),
        "gpu": torch.cuda.get_device_name(),
        "arch": f"{major}{minor}",
        "torch": torch.__version__,
        "cuda": torch.version.cuda,
    }


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks/results", metavar="FOLDER")
    parser.add_argument("--minutes", type=float, default=9.5, help="for all steps together")
    parser.add_argument(
        "--only", nargs="+", default=[], choices=STEPS, metavar="STEP", help="these steps only"
    )
    parser.add_argument(
        "--ptxas", metavar="ARCHS", help='only registers and spills, of "80,90"; needs no GPU'
    )
    arguments = parser.parse_args()
    out = arguments.out.resolve()
    out.mkdir(parents=True, exist_ok=True)
    if arguments.ptxas:
        kernels = [one for arch in arguments.ptxas.split(",") for one in ptxas(arch)]
        write_records(out / "ptxas.json", kernels)
        print(f"{len(kernels)} kernels, {sum(one['spills'] > 0 for one in kernels)} that spill")
        return 0
    record: dict[str, Any] = on_gpu()
    name = f"gpu-check-{record['gpu'].replace(' ', '-')}.json"

    def write(steps: list[Any]) -> None:
        write_records(out / name, {**record, "steps": steps})

    steps, python = Steps(out, 60 * arguments.minutes, arguments.only, write), sys.executable
    native = {"THFR_CUDA_BACKEND": "native", "PYTHONUNBUFFERED": "1"}
    pip = [
        python,
        "-m",
        "pip",
        "install",
        "--no-build-isolation",
        "--no-deps",
        "--force-reinstall",
        str(ROOT),
    ]
    build = {"THFR_CUDA": "on", "THFR_CUDA_ARCHS": record["arch"], "CMAKE_BUILD_PARALLEL_LEVEL": "16"}
    good = steps.run("build", pip, 300, **build)
    tests = [python, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-c", str(ROOT / "pyproject.toml")]
    rooms = [str(ROOT / "tests" / room) for room in ("cuda", "scoring", "retrieval")]
    good &= steps.run("tests", [*tests, "-m", "cuda", *rooms], 300, **native)
    check = [python, "-c", "import json, thfr_ext; print(json.dumps(thfr_ext.self_check()))"]
    good &= steps.run("self-check", check, 300)
    bench = out / f"gpu-check-bench-{record['gpu'].replace(' ', '-')}.json"
    run = [python, str(ROOT / "benchmarks/run.py"), "cuda", "--budget", "1", "--out", str(bench)]
    good &= steps.run("benchmarks", run, 240, **native)
    latency = [python, str(ROOT / "benchmarks/latency_cuda.py"), "--out", str(out / "gpu-check-latency.json")]
    if importlib.util.find_spec("pydantic") and importlib.util.find_spec("timm"):
        good &= steps.run("latency", latency, 120, **native)
    else:  # a bare machine with a GPU has torch and pytest
        steps.note(step="latency", ended="not run: it needs pydantic and timm")
    spills = [python, __file__, "--ptxas", record["arch"], "--out", str(out)]
    good &= steps.run("ptxas", spills, 180)
    driver = str(ROOT / "benchmarks/sanitizer_cases.py")
    for tool in ("memcheck", "racecheck"):
        sanitize = ["compute-sanitizer", "--tool", tool, "--error-exitcode", "9", python, driver]
        good &= steps.run(tool, sanitize, 120, PYTORCH_NO_CUDA_MEMORY_CACHING="1", **native)
    print(f"record: {out / name}")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
