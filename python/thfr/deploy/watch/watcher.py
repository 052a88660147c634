"""Wait until files are complete, score each once, write it down, move it."""

from __future__ import annotations

import logging
import os
import shutil
import sqlite3
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from thfr.deploy.model import Model
from thfr.deploy.sinks.sender import Sender
from thfr.deploy.watch.journal import Arrival
from thfr.deploy.watch.recorder import AFTER_AN_ERROR, PictureChoice, Recorder
from thfr.errors import InputError
from thfr.io import atomic_path, file_sha256, list_images, read_image
from thfr.predictions.judging import Rules

_LOGGER = logging.getLogger(__name__)
_BATCH = 8


@dataclass(frozen=True)
class WatchSettings:
    """How a folder is watched."""

    settle: float = 1.0
    """Seconds for which size and time of a file must not change before it counts as complete."""
    interval: float = 0.5
    """Seconds between two looks at the folder."""
    move: bool = False
    """Move each file to ``good``, ``bad``, ``unjudged`` or ``unreadable`` in the results."""
    pictures: PictureChoice = "bad"
    """Of which images the heat map is written."""
    rules: Rules = field(default_factory=Rules)
    """How findings are made."""


@dataclass
class Watcher:
    """Looks at ``folder`` and its sub-folders by polling, which network shares allow, too.

    ``told`` is called with each new row of the journal.
    """

    model: Model
    folder: Path
    out: Path
    settings: WatchSettings = field(default_factory=WatchSettings)
    told: Callable[[dict[str, Any]], None] = lambda row: None
    senders: Sequence[Sender] = ()
    """Where each new row of the journal is sent."""

    def __post_init__(self) -> None:
        self.folder, self.out = self.folder.resolve(), self.out.resolve()
        if self.out == self.folder:
            raise InputError(f"watch: --out: expected another folder than the watched one, got {self.out}")
        settings = self.settings
        self._recorder = Recorder(
            self.model, self.out, settings.rules, settings.pictures, self.told, self.senders
        )
        self.journal = self._recorder.journal
        self._seen: dict[str, tuple[Arrival, float]] = {}  # file -> its last state, and since when

    def run(self, stopped: Callable[[], bool] = lambda: False, *, once: bool = False) -> None:
        """Watch until ``stopped``, or with ``once`` until every file that is there has been inspected.

        A full disk or a folder that is away is reported and tried again, except with ``once``: then the
        OSError or InputError is raised.
        """
        while not stopped():
            pause = self.settings.interval
            try:
                if self.look() == 0 and once:
                    return
            except (OSError, InputError, sqlite3.OperationalError) as error:
                if once:
                    raise
                _LOGGER.warning("watch: %s; trying again in %g s", error, AFTER_AN_ERROR)
                pause = AFTER_AN_ERROR
            time.sleep(pause)

    def close(self) -> int:
        """As :meth:`thfr.deploy.watch.recorder.Recorder.close`."""
        return self._recorder.close()

    def look(self) -> int:
        """Look once and inspect what is complete; gives how many files have not been inspected yet."""
        self._move_all()
        ready, waiting = self._arrivals()
        done = 0
        for start in range(0, len(ready), _BATCH):
            done += self._inspect(ready[start : start + _BATCH])
            self._recorder.deliver()
        self._move_all()
        self._recorder.deliver()
        return waiting + len(ready) - done

    def _arrivals(self) -> tuple[list[Arrival], int]:
        """The complete files that have no row yet, and how many are not complete."""
        now, ready, waiting = time.monotonic(), [], 0
        seen: dict[str, tuple[Arrival, float]] = {}
        for path in list_images(self.folder, recursive=True):
            if self.out in path.parents:
                continue
            arrival = self._state(path)
            if arrival is None or self.journal.holds(arrival):
                continue
            last, since = self._seen.get(arrival.file, (None, now))
            since = since if last == arrival else now
            seen[arrival.file] = (arrival, since)
            if now - since >= self.settings.settle:
                ready.append(arrival)
            else:
                waiting += 1
        self._seen = seen
        return ready, waiting

    def _state(self, path: Path) -> Arrival | None:
        """The file as it is now; None if it is gone."""
        try:
            found = path.stat()
        except FileNotFoundError:
            return None
        return Arrival(path.relative_to(self.folder).as_posix(), found.st_size, found.st_mtime_ns)

    def _inspect(self, arrivals: list[Arrival]) -> int:
        """Score these files and write their rows; those that changed meanwhile are left for later."""
        readable: list[tuple[Arrival, np.ndarray, str]] = []
        done = 0
        for arrival in arrivals:
            path = self.folder / arrival.file
            try:
                image, digest = read_image(path, self.model.read_options), file_sha256(path)
            except InputError as error:
                if self._state(path) == arrival:  # else somebody writes it, or has taken it away
                    reason = str(error).removeprefix("read_image: ")
                    self._add(arrival, {"error": reason}, "unreadable")
                    done += 1
                continue
            if self._state(path) == arrival:
                readable.append((arrival, image, digest))
        if readable:
            scored = self.model.score([image for _, image, _ in readable])
            for (arrival, image, digest), values, score in zip(
                readable, scored.maps, scored.scores, strict=True
            ):
                entry = {"sha256": digest, **self._recorder.judged(arrival, image, values, float(score))}
                self._add(arrival, entry, entry["verdict"] or "unjudged")
                done += 1
        return done

    def _add(self, arrival: Arrival, entry: dict[str, Any], folder: str) -> None:
        self._recorder.add(arrival, entry, folder if self.settings.move else None)

    def _move_all(self) -> None:
        """Move what is written down but not moved, also what a kill has left."""
        for number, arrival, target in self.journal.to_move():
            source = self.folder / arrival.file
            if self._state(source) == arrival:  # else it was moved just before a kill
                _move(source, self.out / target)
            self.journal.set_moved(number)


def _move(source: Path, target: Path) -> None:
    """Move a file, also to another file system; at no moment is it neither here nor there."""
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        source.replace(target)
    except OSError:
        with atomic_path(target) as temporary:
            shutil.copy2(source, temporary)
            with temporary.open("rb") as file:
                os.fsync(file.fileno())
        source.unlink()
