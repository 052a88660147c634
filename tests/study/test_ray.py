"""Programs that start a Ray cluster: a study, of which a worker is killed, and the recipe for Ray Data."""

from __future__ import annotations

import importlib.util
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from thfr.inference.stream import predict_stream
from thfr.methods import Detector

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(600),
    pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc"),
]
RECIPE = Path(__file__).resolve().parents[2] / "examples" / "score_on_ray.py"
# Ray's workers are nice 15 unless told: beside a busy test suite one then takes many minutes to import torch.
# One thread in all of them: sums of convolutions depend on it.
ENVIRONMENT = {"RAY_worker_niceness": "0", "RAY_USAGE_STATS_ENABLED": "0", "OMP_NUM_THREADS": "1"}


@contextmanager
def started(log: Path, *command: object) -> Iterator[subprocess.Popen[bytes]]:
    """A program that starts a cluster, whose processes end with it."""
    with log.open("w") as said:
        environment = {**os.environ, **ENVIRONMENT}
        words = [sys.executable, *map(str, command)]
        with subprocess.Popen(words, stdout=said, stderr=said, env=environment) as program:
            try:
                yield program
            finally:
                program.terminate()


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


def test_a_killed_worker_is_started_again(data: Path, tiny: list[str], tmp_path: Path) -> None:
    pytest.importorskip("ray", reason="needs thfr-ext[ray]")
    command = ["ablate", "bottleneck", "--data", data, *tiny, "--epochs", 20, "--seeds", 0]
    command = [*map(str, command), "--category", "plate", "--channels", "16", "32", "--out"]
    remote, local = tmp_path / "remote", tmp_path / "local"
    with started(tmp_path / "log.txt", "-m", "thfr", *command, remote, "--ray", "local") as parent:
        deadline = time.monotonic() + 500
        killed: list[int] = []
        while parent.poll() is None and time.monotonic() < deadline:
            if not killed and list(remote.glob("runs/*/log.jsonl")):
                killed = workers(parent.pid)[:1]
                for one in killed:
                    os.kill(one, signal.SIGKILL)
            time.sleep(0.02)
        said = (tmp_path / "log.txt").read_text()[-2000:]
        assert killed, said
        assert parent.poll() == 0, said
    with started(tmp_path / "local.txt", "-m", "thfr", *command, local) as alone:
        assert alone.wait(timeout=500) == 0, (tmp_path / "local.txt").read_text()[-2000:]
    trials = [sorted(path.name for path in out.glob("trials/*.json")) for out in (remote, local)]
    assert trials[0] == trials[1]
    assert len(trials[0]) == 2
    for name in trials[0]:
        one, other = (json.loads((out / "trials" / name).read_text()) for out in (remote, local))
        assert one["trained"] == other["trained"]
        assert [each["metrics"] for each in one["results"]] == [each["metrics"] for each in other["results"]]


def test_the_recipe_gives_the_scores_of_predict(tmp_path: Path) -> None:
    for name in ("ray", "pandas", "pyarrow"):
        pytest.importorskip(name, reason="needs thfr-ext[ray]")
    from pyarrow.parquet import read_table

    spec = importlib.util.spec_from_file_location("recipe", RECIPE)
    assert spec is not None
    assert spec.loader is not None
    recipe = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(recipe)
    run, images = recipe.small_run(tmp_path)
    (images / "torn.png").write_bytes(next(images.rglob("*.png")).read_bytes()[:200])

    given = ["--run", run, "--images", images, "--out", tmp_path / "scores", "--batch-size", 3]
    with started(tmp_path / "log.txt", RECIPE, *given) as program:
        assert program.wait(timeout=500) == 0, (tmp_path / "log.txt").read_text()[-2000:]
    rows = read_table(tmp_path / "scores").to_pylist()
    found = {Path(row["file"]).relative_to(images).as_posix(): row for row in rows}
    assert len(found) == len(rows)
    predict_stream(Detector.load(run, "cpu"), images, tmp_path / "expected", table="parquet")
    expected = {row["file"]: row for row in read_table(tmp_path / "expected" / "scores.parquet").to_pylist()}
    assert found.keys() == expected.keys()
    assert found.pop("torn.png")["error"] is not None
    for name in found:
        row = expected[name]
        assert found[name]["score"] == pytest.approx(row["score"], rel=1e-6), name
        assert found[name]["verdict"] == row["verdict"], name
