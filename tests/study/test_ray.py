"""A study on a Ray cluster: the files of a local one, also when a worker is killed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Call = Callable[..., tuple[int, dict[str, Any]]]
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc"),
    pytest.mark.skipif("THFR_TEST_RAY" not in os.environ, reason="starts a cluster: THFR_TEST_RAY=1 runs it"),
]


def workers(parent: int) -> list[int]:
    """The processes of Ray that carry out a trial, among the descendants of one process."""
    found, children = [], {parent}
    for path in sorted(Path("/proc").glob("[0-9]*"), key=lambda one: int(one.name)):
        try:
            command = (path / "cmdline").read_bytes()
            above = int((path / "stat").read_text().rpartition(")")[2].split()[1])
        except OSError:  # gone meanwhile
            continue
        if above in children:
            children.add(int(path.name))
            if command.startswith(b"ray::carry_out_trial"):
                found.append(int(path.name))
    return found


def test_a_killed_worker_is_started_again(data: Path, tiny: list[str], tmp_path: Path, call: Call) -> None:
    pytest.importorskip("ray", reason="needs thfr-ext[ray]")
    command = ["ablate", "bottleneck", "--data", data, *tiny, "--epochs", 20, "--seeds", 0]
    command = [*map(str, command), "--category", "plate", "--channels", "16", "32", "--out"]
    remote, local = tmp_path / "remote", tmp_path / "local"
    with (tmp_path / "log.txt").open("w") as log:
        parent = subprocess.Popen(
            [sys.executable, "-m", "thfr", *command, str(remote), "--ray", "local"], stdout=log, stderr=log
        )
        deadline = time.monotonic() + 200
        killed: list[int] = []
        while parent.poll() is None and time.monotonic() < deadline:
            if not killed and list(remote.glob("runs/*/log.jsonl")):
                killed = workers(parent.pid)[:1]
                for one in killed:
                    os.kill(one, signal.SIGKILL)
            time.sleep(0.02)
    said = (tmp_path / "log.txt").read_text()[-2000:]
    assert killed, said
    assert parent.wait(timeout=10) == 0, said
    assert call(*command, str(local))[0] == 0
    trials = [sorted(path.name for path in out.glob("trials/*.json")) for out in (remote, local)]
    assert trials[0] == trials[1]
    assert len(trials[0]) == 2
    for name in trials[0]:
        one, other = (json.loads((out / "trials" / name).read_text()) for out in (remote, local))
        assert one["trained"] == other["trained"]
        assert [each["metrics"] for each in one["results"]] == [each["metrics"] for each in other["results"]]
