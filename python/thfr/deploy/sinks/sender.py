"""A thread that delivers rows one after the other, tries again, and writes down what nobody took."""

from __future__ import annotations

import json
import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

_LOGGER = logging.getLogger(__name__)
Outcome = Literal["delivered", "dead"]


class Refused(Exception):
    """The receiver will not take this row, however often it is sent."""


class Failed(Exception):
    """The receiver is there and could not take this row; it may be the row's fault."""


class Sink(Protocol):
    """Where rows are delivered."""

    @property
    def name(self) -> str:
        """For messages; without secrets."""

    def deliver(self, body: bytes) -> None:
        """Hand over one row, JSON in UTF-8; returns when the receiver has taken it.

        Raises:
            Refused: it is of no use to try again.
            Failed: a few more attempts are worth it.
            Exception: anything else means that the receiver is away; it is tried until it is back.
        """

    def close(self) -> None:
        """Let go of the connection."""


@dataclass(frozen=True)
class Retries:
    """How often a row is tried, and how long apart."""

    attempts: int = 8
    """While the receiver answers; with the pauses below this is about two minutes."""
    pause: float = 1.0
    """Seconds after the first failure; doubled after each further one."""
    longest: float = 60.0

    def after(self, failures: int) -> float:
        """Seconds to wait after so many failures in a row."""
        return min(self.longest, self.pause * 2 ** min(failures - 1, 30))


class Sender:
    """Delivers rows to a sink in their order, on a thread of its own, so that a receiver that is slow or away
    holds nothing up.

    A row that is refused, that fails ``retries.attempts`` times, or that finds the queue full, goes to the
    dead letters: a line of JSON with time, sink, error and row.

    Args:
        dead_letters: file that they are appended to.
        told: called with the outcome of each row.
    """

    def __init__(
        self,
        sink: Sink,
        dead_letters: Path,
        retries: Retries = Retries(),
        capacity: int = 1000,
        told: Callable[[Outcome], None] = lambda outcome: None,
    ) -> None:
        self.sink, self.told = sink, told
        self._dead, self._retries, self._capacity = dead_letters, retries, capacity
        self._rows: deque[dict[str, Any]] = deque()
        self._changed = threading.Condition()
        self._closing = False
        self._give_up_at = float("inf")
        self._finished = 0
        self._writing = threading.Lock()
        self._thread = threading.Thread(target=self._run, name=f"thfr-{sink.name}", daemon=True)
        self._thread.start()

    @property
    def room(self) -> int:
        """Rows that fit into the queue."""
        return max(0, self._capacity - len(self._rows))

    @property
    def waiting(self) -> int:
        """Rows that are in the queue or being delivered."""
        return len(self._rows)

    @property
    def finished(self) -> int:
        """How many of the rows that were queued are delivered or dead: the first so many."""
        return self._finished

    def put(self, row: dict[str, Any]) -> None:
        """Queue a row; never waits, never raises."""
        with self._changed:
            if len(self._rows) < self._capacity and not self._closing:
                self._rows.append(row)
                self._changed.notify()
                return
        self._bury(row, "the queue is full")

    def close(self, patience: float = 5.0, *, bury: bool = True) -> None:
        """Deliver what waits, for at most so many seconds and the attempt under way; then ``bury`` what is
        left, or leave that to a caller who has it elsewhere.
        """
        with self._changed:
            self._closing = True
            self._give_up_at = time.monotonic() + patience
            self._changed.notify()
        self._thread.join()
        self.sink.close()
        while bury and self._rows:
            self._bury(self._rows.popleft(), "closed before the receiver was back")

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._rows or self._closing)
                if not self._rows:
                    return
                row = self._rows[0]
            if not self._settle(row):
                return
            with self._changed:
                self._rows.popleft()
                self._finished += 1

    def _settle(self, row: dict[str, Any]) -> bool:
        """Deliver or bury a row; False if it was closed before."""
        body = json.dumps(row, allow_nan=False).encode()
        failed = tried = 0
        while time.monotonic() <= self._give_up_at:
            tried += 1
            try:
                self.sink.deliver(body)
            except Refused as error:
                self._bury(row, str(error))
                return True
            except Exception as error:  # a sink may fail in any way; the line goes on
                if tried == 1:
                    _LOGGER.warning("%s: %s; trying again", self.sink.name, error)
                failed += isinstance(error, Failed)
                if failed >= self._retries.attempts:
                    self._bury(row, f"{error}, {failed} times")
                    return True
                self._sleep(self._retries.after(tried))
            else:
                self.told("delivered")
                return True
        return False

    def _sleep(self, seconds: float) -> None:
        until = time.monotonic() + seconds
        with self._changed:
            while (left := min(until, self._give_up_at) - time.monotonic()) > 0:
                self._changed.wait(left)

    def _bury(self, row: dict[str, Any], error: str) -> None:
        self.told("dead")
        letter = {"time": time.time(), "sink": self.sink.name, "error": error, "row": row}
        try:
            with self._writing, self._dead.open("a", encoding="utf-8") as file:
                file.write(json.dumps(letter, allow_nan=False) + "\n")
        except OSError as reason:
            _LOGGER.error("%s: a row is lost: %s; and %s: %s", self.sink.name, error, self._dead, reason)
