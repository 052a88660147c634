"""What becomes of a scored image: verdict, picture, a row in the journal, and to the sinks."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from PIL import Image

from thfr.deploy.model import Model
from thfr.deploy.pictures import heat_map
from thfr.deploy.sinks.sender import Sender
from thfr.deploy.watch.delivery import Deliveries
from thfr.deploy.watch.journal import Arrival, Journal
from thfr.io import atomic_path
from thfr.predictions.judging import NothingToLookAt, Rules, judge

_PATIENCE = 10.0  # seconds for what is still to be delivered at the end
PictureChoice = Literal["none", "bad", "all"]
AFTER_AN_ERROR = 5.0
"""Seconds until a full disk or an absent folder is tried again."""


class Recorder:
    """Writes into ``out``; :meth:`close` it.

    Args:
        rules: how findings are made.
        pictures: of which images the heat map is written.
        told: called with each new row of the journal.
        senders: where each new row is sent.

    Raises:
        InputError: see :class:`thfr.deploy.watch.journal.Journal`.
    """

    def __init__(
        self,
        model: Model,
        out: Path,
        rules: Rules,
        pictures: PictureChoice,
        told: Callable[[dict[str, Any]], None] = lambda row: None,
        senders: Sequence[Sender] = (),
    ) -> None:
        self.journal = Journal(out)
        self._model, self._out, self._rules, self._pictures, self._told = model, out, rules, pictures, told
        self._deliveries = Deliveries(self.journal, senders, model.name)

    def judged(self, arrival: Arrival, image: np.ndarray, values: np.ndarray, score: float) -> dict[str, Any]:
        """The journal's entry for an image, whose picture is written, if it is to be."""
        if not math.isfinite(score):
            raise RuntimeError(f"watch: the model {self._model.name} gave {arrival.file} the score {score}")
        threshold = self._model.threshold
        limit = None if threshold is None else threshold.value
        try:
            found = judge(values, score, limit, self._rules)
        except NothingToLookAt as error:
            return {"verdict": None, "error": str(error)}
        entry: dict[str, Any] = {
            "score": found.score,
            "verdict": found.verdict,
            "threshold": limit,
            "findings": [finding.as_dict() for finding in found.findings],
        }
        if self._pictures == "all" or (self._pictures == "bad" and found.verdict == "bad"):
            # the time tells pictures of files apart that came under one name
            entry["picture"] = f"pictures/{arrival.file}.{arrival.mtime_ns}.png"
            self.save(entry["picture"], heat_map(image, found.shown, limit))
        return entry

    def save(self, name: str, pixels: np.ndarray) -> None:
        """Write a PNG below the results, atomically."""
        with atomic_path(self._out / name) as temporary:
            Image.fromarray(pixels).save(temporary, compress_level=4)

    def add(self, arrival: Arrival, entry: dict[str, Any], folder: str | None) -> None:
        """Write the row of an arrival, once; see :meth:`thfr.deploy.watch.journal.Journal.add`."""
        self._told(self.journal.add(arrival, entry, folder))

    def deliver(self) -> None:
        """Hand new rows to the senders."""
        self._deliveries.step()

    def close(self) -> int:
        """Deliver what waits, for a few seconds, and close the journal; gives how many rows were left."""
        try:
            return self._deliveries.close(_PATIENCE)
        finally:
            self.journal.close()
