"""Runs the trials of a study, one after the other, each in its own process; knows what is done already."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from tqdm import tqdm

from thfr.errors import InputError
from thfr.runs import files
from thfr.runs.lock import locked
from thfr.study.cluster import run_on_ray
from thfr.study.trials import LOGS, RUNS, STAGE, Trial, read_trial, trial_path

_POLL_SECONDS = 0.2
_LOCK_SECONDS = 10.0  # for the worker of a command just killed, which ends in a moment


@dataclass(frozen=True)
class Outcome:
    """What came of a study's trials: those that are there, in their order, and the others' reasons."""

    finished: list[dict[str, Any]]
    failed: dict[str, str]


@dataclass(frozen=True)
class Workspace:
    """Where a study's data, weights and results are, and what it computes on."""

    data: Path
    out: Path
    weights: Path | None = None
    device: str = "auto"
    keep_runs: bool = False
    ray: str | None = None
    """Address of a Ray cluster that carries trials out (:mod:`thfr.study.cluster`); None: none."""


def run_trials(trials: Sequence[Trial], workspace: Workspace, label: str = "") -> Outcome:
    """Train and evaluate every trial that ``workspace.out`` does not hold yet, with a progress bar on stderr,
    which begins with ``label``.

    Each trial is a process of its own, so that its peak memory is its own and a crash loses one trial. A
    trial that fails is named with its reason, and the others are run. After an interruption, ``kill -9``
    included, the same call resumes the study, inside an unfinished training too, and repeats no finished
    trial.

    Raises:
        InputError: another process is at work in ``workspace.out``; a trial there cannot be read.
    """
    failed: dict[str, str] = {}
    if workspace.out.exists() and not workspace.out.is_dir():
        raise InputError(f"study: out must be a folder, got the file {workspace.out}")
    with locked(workspace.out, "study", _LOCK_SECONDS) as lock:
        waiting = [trial for trial in trials if not trial_path(workspace.out, trial).is_file()]
        done = len(trials) - len(waiting)
        if workspace.ray is not None:
            tasks = {trial.name: _task(trial, workspace) for trial in waiting}
            run_on_ray(tasks, workspace.ray, workspace.device, label, failed.__setitem__)
            for name, why in failed.items():
                print(f"{name}: failed: {why}", file=sys.stderr)
            return _outcome(trials, workspace, failed)
        with tqdm(total=sum(map(_steps, waiting)), unit="step", mininterval=1.0, disable=not waiting) as bar:
            for number, trial in enumerate(waiting, done + 1):
                bar.set_description(f"{label}trial {number} of {len(trials)}")
                reason = _run_one(trial, workspace, bar, lock)
                if reason is not None:
                    failed[trial.name] = reason
                    tqdm.write(f"{trial.name}: failed: {reason}", file=sys.stderr)
        return _outcome(trials, workspace, failed)


def _outcome(trials: Sequence[Trial], workspace: Workspace, failed: dict[str, str]) -> Outcome:
    paths = [trial_path(workspace.out, trial) for trial in trials]
    return Outcome([read_trial(path) for path in paths if path.is_file()], failed)


def _task(trial: Trial, workspace: Workspace) -> dict[str, Any]:
    """What a worker is told. Paths are absolute: it may be on another machine, in another folder."""
    return {
        "trial": trial.definition(),
        "data": str(workspace.data.absolute()),
        "run": str((workspace.out / RUNS / trial.name).absolute()),
        "out": str(workspace.out.absolute()),
        "weights": None if workspace.weights is None else str(workspace.weights.absolute()),
        "device": workspace.device,
        "keep_run": workspace.keep_runs,
    }


def _steps(trial: Trial) -> int:
    settings = trial.config.training
    steps = settings.steps(settings.learnt(sum(trial.data["train"]["images"].values())))
    return max(steps, 1)  # one for a method without any, so that the bar moves


def _run_one(trial: Trial, workspace: Workspace, bar: tqdm, lock: IO[str]) -> str | None:
    """Run one trial in its own process; the reason if it fails."""
    run = workspace.out / RUNS / trial.name
    log = workspace.out / LOGS / f"{trial.name}.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    task = _task(trial, workspace)
    before, steps, shown = bar.n, _steps(trial), ""
    # the folder stays locked until this process, too, is gone
    with log.open("w", encoding="utf-8") as errors:
        process = subprocess.Popen(
            [sys.executable, "-c", _worker_code()],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            pass_fds=() if sys.platform == "win32" else (lock.fileno(),),
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
    if process.returncode == 0 and trial_path(workspace.out, trial).is_file():
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
