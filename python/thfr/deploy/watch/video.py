"""The frames of a video file or a camera: each that is taken is scored once and written down."""

from __future__ import annotations

import hashlib
import logging
import math
import sqlite3
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np

from thfr.deploy.model import Model
from thfr.deploy.sinks.sender import Sender
from thfr.deploy.watch.journal import Arrival
from thfr.deploy.watch.recorder import AFTER_AN_ERROR, PictureChoice, Recorder
from thfr.errors import InputError
from thfr.extras import require
from thfr.io import printable
from thfr.predictions.judging import Rules

_LOGGER = logging.getLogger(__name__)
_BATCH = 8  # frames of a file scored together; a camera's are scored one by one, as they come
CAMERA_FPS = 1.0
"""Frames of a camera that are scored in a second, unless told otherwise."""


@dataclass(frozen=True)
class Camera:
    """One that OpenCV finds at this index."""

    index: int


@dataclass(frozen=True)
class VideoSettings:
    """How frames are taken."""

    fps: float | None = None
    """Frames scored of each second of the video; None: all of a file, :data:`CAMERA_FPS` of a camera."""
    keep: bool = False
    """Write each frame as a PNG into ``good``, ``bad`` or ``unjudged`` in the results."""
    pictures: PictureChoice = "bad"
    rules: Rules = field(default_factory=Rules)


def opened(source: Path | Camera) -> Any:
    """OpenCV's capture of a source.

    Raises:
        InputError: OpenCV is not installed, or cannot open it.
    """
    cv2 = require("watch:", "video", "cv2")
    capture = cv2.VideoCapture(source.index if isinstance(source, Camera) else str(source))
    if not capture.isOpened():
        raise InputError(f"watch: OpenCV cannot open {_in_words(source)}")
    return capture


class VideoWatcher:
    """Scores frames of ``source``; those of a file that are in the journal already are not scored again, so a
    stopped or killed process goes on where it was.

    Raises:
        InputError: the source cannot be opened or states no frame rate, the model learnt from images of more
            than 8 bits, or ``out`` cannot be used.
    """

    def __init__(
        self,
        model: Model,
        source: Path | Camera,
        out: Path,
        settings: VideoSettings | None = None,
        told: Callable[[dict[str, Any]], None] = lambda row: None,
        senders: Sequence[Sender] = (),
        open: Callable[[Path | Camera], Any] = opened,
    ) -> None:
        self.model, self._source, self._open = model, source, open
        self.settings = settings or VideoSettings()
        pixel_range = model.read_options.pixel_range
        if pixel_range is not None and pixel_range.container != "uint8":
            raise InputError(
                f"watch: {model.name} learnt from images of {pixel_range.in_words()}; a video has 8 bits"
            )
        self._capture = open(source)
        rate = float(self._capture.get(_cv2().CAP_PROP_FPS))
        self.source_fps = rate if math.isfinite(rate) and rate > 0 else None
        fps = self.settings.fps
        if fps is not None and self.source_fps is None and isinstance(source, Path):
            raise InputError(f"watch: --fps: {_in_words(source)} states no frame rate to choose frames by")
        self._recorder = Recorder(model, out, self.settings.rules, self.settings.pictures, told, senders)
        self.journal = self._recorder.journal
        self.scored, self.notes = 0, list[str]()
        self._started = time.monotonic()

    def run(self, stopped: Callable[[], bool] = lambda: False) -> None:
        """Go through the file to its end, or with a camera until ``stopped``.

        A full disk is reported and tried again; a camera that gives no frame is opened again.
        """
        frames = self._of_camera(stopped) if isinstance(self._source, Camera) else self._of_file(self._source)
        size = 1 if isinstance(self._source, Camera) else _BATCH
        batch: list[tuple[Arrival, np.ndarray]] = []
        for one in frames:
            batch.append(one)
            if len(batch) == size:
                self._inspect(batch, stopped)
                batch = []
            if stopped():
                break
        self._inspect(batch, stopped)

    def report(self) -> dict[str, Any]:
        """For JSON: the source's frames a second (None: not stated), those asked for, those that were scored
        in a second of this process, how many, and notes.
        """
        seconds = max(time.monotonic() - self._started, 1e-9)
        return {
            "source_fps": self.source_fps,
            "fps": self.fps,
            "scored_a_second": round(self.scored / seconds, 3),
            "scored": self.scored,
            "notes": self.notes,
        }

    @property
    def fps(self) -> float | None:
        """Frames a second of the video that are taken; None: all, of a file that states no rate."""
        if isinstance(self._source, Camera):
            return self.settings.fps or CAMERA_FPS
        if self.settings.fps is None or self.source_fps is None:
            return self.source_fps
        return min(self.settings.fps, self.source_fps)

    def close(self) -> int:
        """As :meth:`thfr.deploy.watch.recorder.Recorder.close`."""
        self._capture.release()
        return self._recorder.close()

    def _of_file(self, path: Path) -> Iterator[tuple[Arrival, np.ndarray]]:
        state = path.stat()
        expected = int(self._capture.get(_cv2().CAP_PROP_FRAME_COUNT))
        share = 1.0 if self.fps is None or self.source_fps is None else self.fps / self.source_fps
        number = 0
        while self._capture.grab():
            taken = number == 0 or math.floor(number * share) > math.floor((number - 1) * share)
            arrival = Arrival(f"{path.name}/{number:06d}.png", state.st_size, state.st_mtime_ns)
            number += 1
            if taken and not self.journal.holds(arrival):
                image = self._retrieved()
                if image is not None:
                    yield arrival, image
                else:
                    self._recorder.add(arrival, {"error": "the frame cannot be decoded"}, None)
        if number == 0:
            raise InputError(f"watch: no frame of {_in_words(path)} can be read")
        if expected > number:
            self.notes.append(f"{number} frames could be read, of {expected} that the file states")

    def _of_camera(self, stopped: Callable[[], bool]) -> Iterator[tuple[Arrival, np.ndarray]]:
        assert isinstance(self._source, Camera)
        step, due = 1 / (self.fps or CAMERA_FPS), time.monotonic()
        while not stopped():
            if not self._capture.grab():  # paced by the camera
                self._open_again(stopped)
                continue
            if time.monotonic() < due:
                continue
            due = max(due + step, time.monotonic())  # what scoring was too slow for is not made up for
            image = self._retrieved()
            if image is not None:
                now = time.time_ns()
                at = datetime.fromtimestamp(now / 1e9, timezone.utc).strftime("%Y%m%dT%H%M%S.%fZ")
                yield Arrival(f"camera-{self._source.index}/{at}.png", image.nbytes, now), image

    def _retrieved(self) -> np.ndarray | None:
        """The frame that was grabbed last, uint8 RGB [H,W,3]."""
        whole, frame = self._capture.retrieve()
        return _cv2().cvtColor(frame, _cv2().COLOR_BGR2RGB) if whole else None

    def _open_again(self, stopped: Callable[[], bool]) -> None:
        _LOGGER.warning("watch: %s gives no frame; trying again", _in_words(self._source))
        self._capture.release()
        while not stopped():
            try:
                self._capture = self._open(self._source)
                return
            except InputError:
                _wait(stopped)

    def _inspect(self, batch: Sequence[tuple[Arrival, np.ndarray]], stopped: Callable[[], bool]) -> None:
        if not batch:
            return
        found = self.model.score([image for _, image in batch])
        for (arrival, image), values, score in zip(batch, found.maps, found.scores, strict=True):
            while True:
                try:
                    self._record(arrival, image, values, float(score))
                    break
                except (OSError, InputError, sqlite3.OperationalError) as error:
                    if stopped():
                        return
                    _LOGGER.warning("watch: %s; trying again in %g s", error, AFTER_AN_ERROR)
                    _wait(stopped)
        self._recorder.deliver()

    def _record(self, arrival: Arrival, image: np.ndarray, values: np.ndarray, score: float) -> None:
        entry = self._recorder.judged(arrival, image, values, score)
        entry["sha256"] = hashlib.sha256(image.tobytes()).hexdigest()
        if self.settings.keep:
            entry["target"] = f"{entry['verdict'] or 'unjudged'}/{arrival.file}.{arrival.mtime_ns}.png"
            self._recorder.save(entry["target"], image)
        self._recorder.add(arrival, entry, None)
        self.scored += 1


def _in_words(source: Path | Camera) -> str:
    return f"camera {source.index}" if isinstance(source, Camera) else printable(source)


def _wait(stopped: Callable[[], bool]) -> None:
    until = time.monotonic() + AFTER_AN_ERROR
    while not stopped() and time.monotonic() < until:
        time.sleep(0.1)


def _cv2() -> Any:
    import cv2

    return cv2
