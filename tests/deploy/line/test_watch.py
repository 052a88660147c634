"""A watched folder: every image exactly once, whatever happens."""

from __future__ import annotations

import itertools
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from thfr.cli import main
from thfr.deploy.watch.journal import Journal
from thfr.deploy.watch.watcher import Watcher, WatchSettings
from thfr.errors import InputError

from .conftest import Brightness, encoded, picture

KILLS = int(os.environ.get("THFR_KILLS", "8"))
QUICK = WatchSettings(settle=0.0, interval=0.01)


def put(folder: Path, name: str, spot: int = 20, kind: str = "PNG") -> Path:
    """Write an image the way a careful camera does: whole, by renaming."""
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.part")
    partial.write_bytes(encoded(picture(spot=spot), kind))
    return partial.replace(path)


def lines(out: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (out / "results.jsonl").read_text().splitlines()]


def watch_once(folder: Path, out: Path, **changes: Any) -> list[dict[str, Any]]:
    settings = WatchSettings(**{"settle": 0.0, "interval": 0.01, **changes})
    watcher = Watcher(Brightness(), folder, out, settings)
    try:
        watcher.run(once=True)
    finally:
        watcher.close()
    return lines(out)


@pytest.fixture
def camera(tmp_path: Path) -> Path:
    (tmp_path / "camera").mkdir()
    return tmp_path / "camera"


def test_verdicts_findings_and_pictures(camera: Path, tmp_path: Path) -> None:
    put(camera, "line 1/a.png", 255)
    put(camera, "b.jpg", 20, "JPEG")
    fine, bad = watch_once(camera, tmp_path / "out")
    assert (fine["file"], fine["verdict"], fine["findings"], fine["picture"]) == ("b.jpg", "good", [], None)
    assert (bad["file"], bad["verdict"], bad["score"], bad["threshold"]) == ("line 1/a.png", "bad", 1, 0.5)
    assert bad["findings"][0]["area"] == 64
    assert (tmp_path / "out" / bad["picture"]).read_bytes()[:4] == b"\x89PNG"
    assert bad["target"] is None
    assert (camera / "line 1/a.png").is_file()


def test_once_means_once_also_over_restarts(camera: Path, tmp_path: Path) -> None:
    put(camera, "a.png")
    assert len(watch_once(camera, tmp_path / "out")) == 1
    put(camera, "b.png")
    assert [row["file"] for row in watch_once(camera, tmp_path / "out")] == ["a.png", "b.png"]
    time.sleep(0.02)
    put(camera, "a.png", 255)  # the camera uses the name again
    rows = watch_once(camera, tmp_path / "out")
    assert [(row["file"], row["verdict"]) for row in rows] == [
        ("a.png", "good"), ("b.png", "good"), ("a.png", "bad"),
    ]  # fmt: skip


def test_a_file_is_left_alone_until_it_is_complete(camera: Path, tmp_path: Path) -> None:
    watcher = Watcher(Brightness(), camera, tmp_path / "out", WatchSettings(settle=0.3))
    data = encoded(picture(spot=255))
    with (camera / "a.png").open("wb") as file:
        for start in range(0, len(data), len(data) // 4):
            file.write(data[start : start + len(data) // 4])
            file.flush()
            assert watcher.look() == 1
            time.sleep(0.1)
    assert lines(tmp_path / "out") == []
    time.sleep(0.35)
    assert watcher.look() == 0
    watcher.close()
    assert [(row["file"], row["verdict"]) for row in lines(tmp_path / "out")] == [("a.png", "bad")]


def test_an_unreadable_file_is_an_entry_and_not_the_end(camera: Path, tmp_path: Path) -> None:
    (camera / "a.png").write_bytes(encoded(picture())[:60])
    put(camera, "b.png")
    broken, fine = sorted(watch_once(camera, tmp_path / "out", move=True), key=lambda row: row["file"])
    assert (broken["file"], broken["score"], broken["target"]) == ("a.png", None, "unreadable/a.png")
    assert "cannot read" in broken["error"]
    assert (fine["verdict"], fine["error"]) == ("good", None)
    assert (tmp_path / "out/unreadable/a.png").is_file()


def test_files_are_moved_by_verdict_and_none_is_overwritten(camera: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    for spot in (200, 255):
        put(camera, "a.png", spot)
        put(camera, "line 1/a.png", 20)
        watch_once(camera, out, move=True)
    moved = {path.relative_to(out).as_posix() for path in out.rglob("*.png") if "pictures" not in path.parts}
    assert moved == {"bad/a.png", "bad/a-2.png", "good/line 1/a.png", "good/line 1/a-2.png"}
    assert not list(camera.rglob("*.png"))
    assert (out / "bad/a-2.png").read_bytes() == encoded(picture(spot=255))


def test_results_inside_of_the_watched_folder(camera: Path) -> None:
    put(camera, "a.png", 255)
    assert len(watch_once(camera, camera / "results", move=True)) == 1
    assert len(watch_once(camera, camera / "results", move=True)) == 1
    with pytest.raises(InputError, match="expected another folder than the watched one"):
        Watcher(Brightness(), camera, camera)


def test_one_process_at_a_time(tmp_path: Path) -> None:
    first = Journal(tmp_path)
    with pytest.raises(InputError, match="another thfr watch has it open"):
        Journal(tmp_path)
    first.close()
    Journal(tmp_path).close()


def test_a_file_that_is_no_journal(tmp_path: Path) -> None:
    (tmp_path / "journal.db").write_bytes(b"nothing " * 200)
    with pytest.raises(InputError, match=r"cannot open .*journal\.db: file is not a database"):
        Journal(tmp_path)


def test_a_full_disk_is_waited_out(
    camera: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    from thfr.deploy.watch import recorder, watcher

    put(camera, "a.png", 255)
    full, real = [True], recorder.atomic_path

    def writing(path: Path) -> Any:
        if full.pop() if full else False:
            raise OSError(28, "No space left on device")
        return real(path)

    monkeypatch.setattr(recorder, "atomic_path", writing)
    monkeypatch.setattr(watcher, "AFTER_AN_ERROR", 0.01)
    waiting = Watcher(Brightness(), camera, tmp_path / "out", QUICK)
    waiting.run(lambda: waiting.journal.counts()["bad"] == 1)
    waiting.close()
    assert "No space left on device" in caplog.text
    assert [row["verdict"] for row in lines(tmp_path / "out")] == ["bad"]


def test_lines_are_whole_again_after_a_write_that_failed(camera: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    watcher = Watcher(Brightness(), camera, out, QUICK)
    put(camera, "a.png")
    (out / "results.jsonl").unlink()
    (out / "results.jsonl").mkdir()
    with pytest.raises(OSError, match=r"results\.jsonl"):
        watcher.run(once=True)
    (out / "results.jsonl").rmdir()
    put(camera, "b.png")
    watcher.run(once=True)
    watcher.close()
    assert [row["file"] for row in lines(out)] == ["a.png", "b.png"]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.parametrize("move", [False, True], ids=["stay", "move"])
def test_kill_at_random_moments(camera: Path, tmp_path: Path, move: bool) -> None:
    out, rng = tmp_path / "out", random.Random(int(move))
    settings = WatchSettings(settle=0.0, interval=0.002, move=move, pictures="all")
    names: list[str] = []
    killed, written = 0, [0]
    for _ in range(KILLS):
        for _ in range(6):
            names.append(f"{len(names):03d}.png")
            put(camera, names[-1], 255 if rng.random() < 0.5 else 20)
        done, tell = os.pipe()
        child = os.fork()
        if child == 0:
            try:
                Watcher(Brightness(), camera, out, settings, lambda _, end=tell: os.write(end, b".")).run()
            finally:
                os._exit(1)
        for _ in range(rng.randint(0, 6)):  # six at least are to be done
            os.read(done, 1)
        time.sleep(rng.uniform(0, 0.03))
        os.kill(child, signal.SIGKILL)
        os.close(done)
        os.close(tell)
        killed += os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
        journal = Journal(out)
        written.append(sum(journal.counts().values()))
        journal.close()
    assert killed == KILLS  # none of them had ended by itself
    busy = sum(before < after for before, after in itertools.pairwise(written))
    assert busy >= KILLS // 4, written  # the kills came while images were inspected
    rows = watch_once(camera, out, move=move)
    assert Counter(row["file"] for row in rows) == Counter(names)
    assert {row["verdict"] for row in rows} == {"good", "bad"}
    where = [out / row["target"] if move else camera / row["file"] for row in rows]
    assert all(path.is_file() for path in where)
    assert len(list(camera.glob("*.png"))) == (0 if move else len(names))
    assert not list((out / "good").glob("*-2.png"))


@pytest.mark.slow
def test_the_command(run_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    camera, out = tmp_path / "camera", tmp_path / "out"
    put(camera, "a.png", 255)
    arguments = [str(run_folder), str(camera), "--out", str(out), "--settle", "0", "--device", "cpu"]
    assert main(["watch", *arguments, "--once", "--json"]) == 0
    found = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert {key: found[key] for key in ("good", "bad", "none", "unreadable")} in (
        {"good": 0, "bad": 1, "none": 0, "unreadable": 0},
        {"good": 1, "bad": 0, "none": 0, "unreadable": 0},
    )
    process = subprocess.Popen(
        [sys.executable, "-m", "thfr", "watch", *arguments], stderr=subprocess.PIPE, text=True
    )
    put(camera, "b.png")
    assert process.stderr is not None
    while "b.png" not in (line := process.stderr.readline()):
        assert line, "it ended"
    process.send_signal(signal.SIGTERM)
    assert process.wait(60) == 0
    assert [row["file"] for row in lines(out)] == ["a.png", "b.png"]
