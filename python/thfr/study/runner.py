"""Runs the cells of a study, one after the other, each in its own process; knows what is done already."""

from __future__ import annotations

import fcntl
import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from tqdm import tqdm

from thfr.errors import InputError
from thfr.runs import files
from thfr.study.cells import LOGS, RUNS, STAGE, Cell, cell_path, read_cell

_POLL_SECONDS = 0.2
_LOCK_SECONDS = 10.0


@dataclass(frozen=True)
class Outcome:
    """What came of a study's cells: those that are there, in their order, and the others' reasons."""

    finished: list[dict[str, Any]]
    failed: dict[str, str]


@dataclass(frozen=True)
class Place:
    """Where a study's data, weights and results are, and what it computes on."""

    data: Path
    out: Path
    weights: Path | None = None
    device: str = "auto"
    keep_runs: bool = False


def run_cells(cells: Sequence[Cell], place: Place, label: str = "") -> Outcome:
    """Train and evaluate every cell that ``place.out`` does not hold yet, with a progress bar on stderr,
    which begins with ``label``.

    Each cell is a process of its own, so that its peak memory is its own and a crash loses one cell. A cell
    that fails is named with its reason, and the others go on. After an interruption, ``kill -9`` included,
    the same call goes on, inside an unfinished training too, and repeats no finished cell.

    Raises:
        InputError: another process is at work in ``place.out``; a cell there cannot be read.
    """
    failed: dict[str, str] = {}
    with _locked(place.out) as lock:
        waiting = [cell for cell in cells if not cell_path(place.out, cell).is_file()]
        done = len(cells) - len(waiting)
        with tqdm(total=sum(map(_steps, waiting)), unit="step", mininterval=1.0, disable=not waiting) as bar:
            for number, cell in enumerate(waiting, done + 1):
                bar.set_description(f"{label}cell {number} of {len(cells)}")
                reason = _run_one(cell, place, bar, lock)
                if reason is not None:
                    failed[cell.name] = reason
                    tqdm.write(f"{cell.name}: failed: {reason}", file=sys.stderr)
        paths = [cell_path(place.out, cell) for cell in cells]
        return Outcome([read_cell(path) for path in paths if path.is_file()], failed)


def _steps(cell: Cell) -> int:
    settings = cell.config.training
    steps = settings.steps(round(sum(cell.data["train"]["images"].values()) * (1 - settings.holdout)))
    return max(steps, 1)  # one for a method without any, so that the bar moves


def _run_one(cell: Cell, place: Place, bar: tqdm, lock: IO[str]) -> str | None:
    """Run one cell in its own process; the reason if it fails."""
    run = place.out / RUNS / cell.name
    log = place.out / LOGS / f"{cell.name}.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    task = {
        "cell": cell.definition(),
        "data": str(place.data),
        "run": str(run),
        "out": str(place.out),
        "weights": None if place.weights is None else str(place.weights),
        "device": place.device,
        "keep_run": place.keep_runs,
    }
    before, steps, shown = bar.n, _steps(cell), ""
    with log.open("w", encoding="utf-8") as errors:
        process = subprocess.Popen(
            [sys.executable, "-c", _worker_code()],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            pass_fds=(lock.fileno(),),  # the folder stays locked until this process, too, is gone
        )
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            process.stdin.write(json.dumps(task) + "\n")
            process.stdin.flush()  # and left open: see the worker
            while process.poll() is None:
                time.sleep(_POLL_SECONDS)
                bar.update(min(before + _last_step(run / files.LOG), before + steps) - bar.n)
                if (stage := _stage(log)) != shown:
                    bar.set_postfix_str(stage)
                    shown = stage
            said = process.stdout.read()
        finally:
            process.kill()
            process.wait()
            process.stdin.close()
            process.stdout.close()
    bar.set_postfix_str("", refresh=False)
    bar.update(before + steps - bar.n)
    if process.returncode == 0 and cell_path(place.out, cell).is_file():
        log.unlink()
        return None
    return _reason(process.returncode, said, log)


def _stage(log: Path) -> str:
    """Which evaluation a worker is at, by its log; empty while it trains."""
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
    return next((line for line in reversed(lines) if line.startswith(STAGE)), "")


def _worker_code() -> str:
    """Start a worker with this process's import path: the current folder, which `python -m` would put before
    it, may hold the sources without the native module.
    """
    start = "from thfr.study.worker import main; raise SystemExit(main())"
    return f"import sys; sys.path[:] = {sys.path!r}; {start}"


def _last_step(log: Path) -> int:
    """How far the training is, by its log."""
    if not log.is_file():
        return 0
    with log.open("rb") as file:
        file.seek(max(0, log.stat().st_size - 4096))
        lines = file.read().splitlines()
    for line in reversed(lines):
        try:
            return int(json.loads(line)["step"])
        except (ValueError, KeyError):  # cut off, or a line about something else
            continue
    return 0


def _reason(code: int, said: str, log: Path) -> str:
    try:
        return str(json.loads(said.splitlines()[-1])["reason"])
    except (ValueError, IndexError, KeyError):
        pass
    how = f"killed by {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
    return f"its process ended with {how}; see {log}"


@contextmanager
def _locked(out: Path) -> Iterator[IO[str]]:
    """Keep the folder for this process and its worker."""
    if out.exists() and not out.is_dir():
        raise InputError(f"study: out must be a folder, got the file {out}")
    out.mkdir(parents=True, exist_ok=True)
    with (out / ".lock").open("w") as file:
        deadline = time.monotonic() + _LOCK_SECONDS
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except OSError:  # perhaps the worker of a command just killed, which ends in a moment
                if time.monotonic() > deadline:
                    raise InputError(f"study: another command is at work in {out}") from None
                time.sleep(_POLL_SECONDS)
        yield file
