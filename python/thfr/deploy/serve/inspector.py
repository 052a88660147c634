"""From an image's bytes to an inspection: decode, wait, score, findings, picture, log."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import logging
import math
import os
import threading
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from PIL import Image

from thfr.deploy.inspections import InspectionLog
from thfr.deploy.model import Model
from thfr.deploy.pictures import heat_map
from thfr.deploy.serve.batching import Closed, Scored, Worker
from thfr.deploy.serve.images import decode, encode
from thfr.deploy.serve.metrics import Metrics
from thfr.deploy.serve.schema import Inspection
from thfr.deploy.serve.settings import Settings
from thfr.deploy.sinks.sender import Sender
from thfr.errors import InputError
from thfr.io import ReadOptions
from thfr.predictions.judging import Rules, judge

_LOGGER = logging.getLogger(__name__)
_PICTURE_EDGE = 512  # of the pictures in the log
MapKind = Literal["none", "png", "tiff"]


class UnknownModel(InputError):
    """There is no model of this name."""


@dataclass(frozen=True)
class Upload:
    """An image as it came."""

    data: bytes
    file: str | None


@dataclass(frozen=True)
class Wish:
    """What a request asks for."""

    model: str | None
    map: MapKind
    rules: Rules


class Inspector:
    """The models with their workers, the threads for pixels, and the log."""

    def __init__(
        self,
        models: Mapping[str, Model],
        settings: Settings,
        log: InspectionLog | None,
        senders: Sequence[Sender] = (),
    ) -> None:
        if not models:
            raise InputError("serve: expected at least one model, got none")
        self.settings, self.log, self.senders = settings, log, senders
        self.metrics = Metrics()
        for sender in senders:
            self.metrics.watch_sender(sender)
        self.workers: dict[str, Worker] = {}
        self._changing = threading.Lock()
        for name, model in models.items():
            self.put(name, model)
        self._threads = ThreadPoolExecutor(max(2, min(8, os.cpu_count() or 2)), "thfr-pixels")

    def put(self, name: str, model: Model) -> None:
        """Let a model answer under this name from now on; what another one has taken under it, that one
        answers first.
        """
        by_hand = self.log.thresholds(model.name) if self.log is not None else []
        of_run = None if model.threshold is None else model.threshold.value
        limit = by_hand[0]["value"] if by_hand else of_run
        worker = Worker(model, self.settings, self.metrics.batches(name), name, limit)
        self._change({name: worker})

    def remove(self, name: str) -> None:
        """Serve this model no more; what it has taken it answers."""
        self._change({name: None})

    def _change(self, change: Mapping[str, Worker | None]) -> None:
        with self._changing:
            gone = [self.workers[name] for name in change if name in self.workers]
            # a new table: others may be going through the old one
            self.workers = {name: one for name, one in {**self.workers, **change}.items() if one is not None}
            for name, worker in change.items():
                self.metrics.watch(name, worker)
        for old in gone:
            old.close()

    def close(self) -> None:
        """Answer what waits, then end all threads."""
        for worker in self.workers.values():
            worker.close()
        self._threads.shutdown()
        for sender in self.senders:
            sender.close()
        if self.log is not None:
            self.log.close()

    def worker(self, name: str | None) -> Worker:
        """The worker of this model, or of the first; UnknownModel if there is none."""
        if name is None:
            return next(iter(self.workers.values()))
        if name not in self.workers:
            raise UnknownModel(f"inspect: model: expected one of {', '.join(self.workers)}, got {name!r}")
        return self.workers[name]

    def set_limit(self, name: str, value: float, who: str, why: str) -> None:
        """Set by hand above which score images are bad, and log who did so and why, for the run that answers:
        another one in its place has its own.
        """
        assert self.log is not None
        worker = self.worker(name)
        self.log.set_threshold(worker.model.name, value, who, why)
        worker.limit = value

    async def inspect(self, uploads: Sequence[Upload], wish: Wish) -> list[Inspection | InputError]:
        """The inspections in the order of the uploads; an InputError for an image that cannot be used.

        Raises:
            UnknownModel, QueueFull, Closed: nothing was inspected.
            asyncio.TimeoutError: the answer took too long.
        """
        worker = self.worker(wish.model)
        images = await asyncio.gather(
            *(self._in_thread(self._decode, upload, worker.model.read_options, wish) for upload in uploads)
        )
        readable = [image for image in images if not isinstance(image, InputError)]
        started = time.monotonic()
        try:
            waiting = worker.submit(readable)
        except Closed:
            if self.workers.get(worker.name) is worker:
                raise  # the service shuts down
            return await self.inspect(uploads, replace(wish, model=worker.name))  # to the new one
        answers = asyncio.gather(*map(asyncio.wrap_future, waiting))
        scored = iter(await asyncio.wait_for(answers, self.settings.timeout))
        ms = round((time.monotonic() - started) * 1000, 3)
        tasks: list[Any] = []
        for upload, image in zip(uploads, images, strict=True):
            if isinstance(image, InputError):
                tasks.append(asyncio.sleep(0, image))
            else:
                done = next(scored)
                tasks.append(self._in_thread(self._describe, worker, upload, image, done, wish, ms))
        return list(await asyncio.gather(*tasks))

    async def _in_thread(self, function: Any, *arguments: Any) -> Any:
        return await asyncio.get_running_loop().run_in_executor(self._threads, function, *arguments)

    def _decode(self, upload: Upload, options: ReadOptions, wish: Wish) -> np.ndarray | InputError:
        try:
            image = decode(upload.data, self.settings.max_pixels, options)
            wish.rules.where.mask((image.shape[0], image.shape[1]))  # said before it is scored
            return image
        except InputError as error:
            return error

    def _describe(
        self, worker: Worker, upload: Upload, image: np.ndarray, scored: Scored, wish: Wish, ms: float
    ) -> Inspection:
        name, limit = worker.name, worker.limit
        if not math.isfinite(scored.score):
            raise RuntimeError(f"inspect: the model {name} gave the score {scored.score}")
        judged = judge(scored.anomaly_map, scored.score, limit, wish.rules)
        wanted: bytes | None = None
        drawn: np.ndarray | None = None
        if wish.map == "png" or self.log is not None:
            drawn = heat_map(image, judged.shown, limit)
        if wish.map == "tiff":
            wanted = encode(scored.anomaly_map, "tiff")
        elif wish.map == "png" and drawn is not None:
            wanted = encode(drawn, "png")
        entry: dict[str, Any] = {
            "model": name,
            "file": upload.file,
            "score": judged.score,
            "verdict": judged.verdict,
            "threshold": limit,
            "height": image.shape[0],
            "width": image.shape[1],
            "ms": ms,
        }
        number = None
        if self.log is not None or self.senders:
            row = {
                **entry,
                "sha256": hashlib.sha256(upload.data).hexdigest(),
                "findings": [finding.as_dict() for finding in judged.findings],
            }
            number = None if drawn is None else self._logged(row, upload, drawn)
            for sender in self.senders:
                sender.put({"id": number, "time": time.time(), **row})
        self.metrics.inspected(name, judged.verdict, ms / 1000)
        encoded = None if wanted is None else base64.b64encode(wanted).decode("ascii")
        return Inspection(id=number, findings=judged.findings, map=encoded, **entry)

    def _logged(self, row: dict[str, Any], upload: Upload, drawn: np.ndarray) -> int | None:
        """The inspection's number in the log; None without a log, or where it cannot be written."""
        if self.log is None:
            return None
        small = Image.fromarray(drawn)
        small.thumbnail((_PICTURE_EDGE, _PICTURE_EDGE))
        try:
            return self.log.add(row, encode(np.asarray(small), "png"), upload.data)
        except Exception:  # a full disk or a database that is away must not stop the line
            _LOGGER.exception("serve: an inspection could not be logged")
            self.metrics.log_errors.inc()
            return None
