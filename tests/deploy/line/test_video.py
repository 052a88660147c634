"""Frames of a video that OpenCV has written, and of a made-up camera."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from thfr.cli import main
from thfr.deploy.watch.video import Camera, VideoSettings, VideoWatcher
from thfr.errors import InputError
from thfr.io import PixelRange, ReadOptions, read_image

from .conftest import Brightness, picture

cv2 = pytest.importorskip("cv2", reason="needs thfr-ext[video]")

BAD = {3, 4, 11}


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve frames, ten a second, of 64 x 48; three with a bright spot on the left."""
    path = tmp_path_factory.mktemp("video") / "line.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"MJPG"), 10.0, (64, 48))
    for number in range(12):
        frame = picture(48, 64, 255 if number in BAD else 20)
        frame[..., 2] = 20  # RGB: the spot is yellow, in BGR it would be cyan
        writer.write(cv2.cvtColor(frame, cv2.COLOR_RGB2BGR))
    writer.release()
    return path


def watched(video: Path, out: Path, stop_after: int = 99, **settings: Any) -> tuple[list[Any], Any]:
    watcher = VideoWatcher(Brightness(), video, out, VideoSettings(**settings))
    told: list[Any] = []
    watcher._recorder._told = told.append
    watcher.run(lambda: len(told) >= stop_after)
    rows = list(watcher.journal.rows())
    watcher.close()
    return rows, watcher.report()


def test_each_frame_is_scored_once_and_kept_by_verdict(video: Path, tmp_path: Path) -> None:
    rows, report = watched(video, tmp_path / "out", keep=True)
    assert [row["file"] for row in rows] == [f"line.avi/{n:06d}.png" for n in range(12)]
    assert {n for n, row in enumerate(rows) if row["verdict"] == "bad"} == BAD
    found = rows[3]["findings"][0]
    assert (found["x"], found["y"]) == (pytest.approx(20, abs=1), pytest.approx(10, abs=1))
    assert rows[3]["target"].startswith("bad/line.avi/000003.png.")
    assert (tmp_path / "out" / rows[3]["picture"]).is_file()
    frame = read_image(tmp_path / "out" / rows[3]["target"])
    assert frame.shape == (48, 64, 3)
    assert (frame[14, 24, :2] > 200).all()
    assert frame[14, 24, 2] < 90
    assert (report["source_fps"], report["fps"], report["scored"], report["notes"]) == (10.0, 10.0, 12, [])
    lines = (tmp_path / "out" / "results.jsonl").read_text().splitlines()
    assert [json.loads(line)["file"] for line in lines] == [row["file"] for row in rows]


def test_some_frames_of_each_second(video: Path, tmp_path: Path) -> None:
    rows, report = watched(video, tmp_path / "out", fps=2.5)
    assert [int(row["file"][-10:-4]) for row in rows] == [0, 4, 8]
    assert (report["fps"], report["scored"]) == (2.5, 3)


def test_it_goes_on_where_it_was_stopped(video: Path, tmp_path: Path) -> None:
    first, _ = watched(video, tmp_path / "out", stop_after=8)
    assert 8 <= len(first) < 12
    rows, report = watched(video, tmp_path / "out")
    assert [row["file"] for row in rows] == [f"line.avi/{n:06d}.png" for n in range(12)]
    assert report["scored"] == 12 - len(first)


def test_what_is_no_video(tmp_path: Path) -> None:
    (tmp_path / "text.avi").write_text("no video")
    with pytest.raises(InputError, match=r"watch: OpenCV cannot open .*text\.avi"):
        VideoWatcher(Brightness(), tmp_path / "text.avi", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_video_that_was_cut_off_is_noted(video: Path, tmp_path: Path) -> None:
    data = video.read_bytes()
    (tmp_path / "cut.avi").write_bytes(data[: len(data) * 4 // 5])
    rows, report = watched(tmp_path / "cut.avi", tmp_path / "out")
    assert 0 < len(rows) < 12
    assert report["notes"] == [f"{len(rows)} frames could be read, of 12 that the file states"]


def test_a_model_of_deep_images_is_refused(video: Path, tmp_path: Path) -> None:
    model = Brightness()
    model.read_options = ReadOptions(PixelRange.of_bits(12))
    with pytest.raises(InputError, match=r"plate learnt from .*; a video has 8 bits"):
        VideoWatcher(model, video, tmp_path / "out")


class FakeCamera:
    """Gives a frame whenever it is asked, as OpenCV's captures do, and fails once after ``last``."""

    def __init__(self, last: int) -> None:
        self.left = last

    def get(self, _: int) -> float:
        return 0.0

    def grab(self) -> bool:
        self.left -= 1
        return self.left >= 0

    def retrieve(self) -> tuple[bool, np.ndarray]:
        return True, picture(48, 64, 255)

    def release(self) -> None:
        pass


def test_a_camera_is_scored_at_its_rate_and_opened_again(tmp_path: Path) -> None:
    cameras = [FakeCamera(2), FakeCamera(10**9)]
    watcher = VideoWatcher(
        Brightness(), Camera(0), tmp_path / "out", VideoSettings(fps=50.0), open=lambda _: cameras.pop(0)
    )
    watcher.run(lambda: watcher.scored >= 12)
    rows = list(watcher.journal.rows())
    assert len({row["file"] for row in rows}) == len(rows) == 12
    assert all(row["file"].startswith("camera-0/2") and row["verdict"] == "bad" for row in rows)
    times = [row["mtime_ns"] for row in rows]
    assert max(times) - min(times) > 6e9 / 50  # of 11 intervals: a frame may come late, the next one in time
    assert (watcher.report()["source_fps"], watcher.report()["fps"]) == (None, 50.0)
    assert cameras == []
    watcher.close()


def test_the_command(video: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from support.images import products, write_images
    from support.methods import run, small_config

    run(small_config("spade", holdout=0.3), write_images(tmp_path / "good", products(6, 0)), tmp_path / "run")
    command = ["watch", str(tmp_path / "run"), str(video), "--out", str(tmp_path / "out"), "--device", "cpu"]
    assert main([*command, "--fps", "5", "--json"]) == 0
    values = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert (values["video"]["source_fps"], values["video"]["fps"], values["video"]["scored"]) == (10, 5, 6)
    assert values["good"] + values["bad"] == 6
    with pytest.raises(SystemExit):
        main([*command, "--once"])
    assert "--once: only for a folder" in capsys.readouterr().err
    monkey = pytest.MonkeyPatch()
    with monkey.context() as patched:
        patched.setitem(sys.modules, "cv2", None)
        assert main([*command[:2], "camera:0", *command[3:]]) == 2
    assert "thfr watch: error: needs cv2: pip install thfr-ext[video]" in capsys.readouterr().err
