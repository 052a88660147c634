"""One thread a model, a bounded queue before it, and what waits is scored together."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass

import numpy as np

from thfr.deploy.model import Model
from thfr.deploy.serve.settings import Settings


class QueueFull(Exception):
    """Too much is waiting; try again after ``retry_after`` seconds."""

    def __init__(self, retry_after: int) -> None:
        super().__init__(f"the queue is full; try again in {retry_after} s")
        self.retry_after = retry_after


class Closed(Exception):
    """The worker takes nothing any more."""


@dataclass(frozen=True)
class Scored:
    """The answer to one image."""

    anomaly_map: np.ndarray  # float32 [H,W]
    score: float


@dataclass(frozen=True)
class _Waiting:
    image: np.ndarray  # uint8 [H,W,3]
    answer: Future[Scored]
    since: float

    @property
    def pixels(self) -> int:
        return self.image.shape[0] * self.image.shape[1]


class Worker:
    """Scores a model's images in batches, in the order they came, on a thread of its own.

    Args:
        observe: called with each batch's size and seconds.
        name: by which it is asked for; None: the model's own.
        limit: a score above it is bad; None: nobody knows.
    """

    def __init__(
        self,
        model: Model,
        settings: Settings,
        observe: Callable[[int, float], None] = lambda n, s: None,
        name: str | None = None,
        limit: float | None = None,
    ) -> None:
        self.model, self.name, self.limit = model, name or model.name, limit
        self._settings, self._observe = settings, observe
        self._waiting: deque[_Waiting] = deque()
        self._pixels = 0
        self._changed = threading.Condition()
        self._closing = False
        self._seconds_each = 0.1  # running mean of the time an image takes
        self._thread = threading.Thread(target=self._run, name=f"thfr-{self.name}", daemon=True)
        self._thread.start()

    @property
    def depth(self) -> int:
        """Images that wait."""
        return len(self._waiting)

    def submit(self, images: list[np.ndarray]) -> list[Future[Scored]]:
        """Queue these images, all or none.

        Raises:
            QueueFull: there is no room; larger than the whole queue fits only when nothing waits.
            Closed: after :meth:`close`.
        """
        items = [_Waiting(image, Future(), time.monotonic()) for image in images]
        pixels = sum(item.pixels for item in items)
        with self._changed:
            if self._closing:
                raise Closed(f"{self.name} is shutting down")
            full = len(self._waiting) + len(items) > self._settings.queue_images
            full |= self._pixels + pixels > self._settings.queue_pixels
            if full and self._waiting:
                raise QueueFull(max(1, round(len(self._waiting) * self._seconds_each + 0.5)))
            self._waiting.extend(items)
            self._pixels += pixels
            self._changed.notify()
        return [item.answer for item in items]

    def close(self) -> None:
        """Take nothing any more, answer what waits, and end the thread."""
        with self._changed:
            self._closing = True
            self._changed.notify()
        self._thread.join()

    def _run(self) -> None:
        while batch := self._next_batch():
            self._score(batch)

    def _next_batch(self) -> list[_Waiting]:
        """The images to score next; empty at the end."""
        settings = self._settings
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._closing)
            if not self._waiting:
                return []
            until = self._waiting[0].since + settings.batch_wait
            self._changed.wait_for(
                lambda: len(self._waiting) >= settings.batch_images or self._closing,
                timeout=max(0.0, until - time.monotonic()),
            )
            count = min(len(self._waiting), settings.batch_images)
            batch = [self._waiting.popleft() for _ in range(count)]
            self._pixels -= sum(item.pixels for item in batch)
        return batch

    def _score(self, batch: list[_Waiting]) -> None:
        # an image whose request has timed out was cancelled: nobody waits for it
        live = [item for item in batch if item.answer.set_running_or_notify_cancel()]
        if not live:
            return
        started = time.monotonic()
        try:
            found = self.model.score([item.image for item in live])
            for item, anomaly_map, score in zip(live, found.maps, found.scores, strict=True):
                item.answer.set_result(Scored(anomaly_map, float(score)))
        except BaseException as error:  # the thread must live on, and the requests must hear of it
            for item in live:
                if not item.answer.done():
                    item.answer.set_exception(error)
        seconds = time.monotonic() - started
        self._seconds_each += 0.2 * (seconds / len(live) - self._seconds_each)
        self._observe(len(live), seconds)
