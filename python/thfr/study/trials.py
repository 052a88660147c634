"""A trial of a study: one training, and how the detector it gives is evaluated. One JSON file each."""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from thfr.config import RunConfig
from thfr.errors import InputError
from thfr.io import atomic_write_json
from thfr.methods.registry import config_from_values
from thfr.runs.json_file import read_object

FORMAT = "thfr-trial-1"
TRIALS, RUNS, LOGS = "trials", "runs", "logs"
OLD_FORMAT, OLD_TRIALS = "thfr-cell-1", "cells"  # of version 0.2, when a trial was called a cell
STAGE = "evaluation "  # so begin the lines of a trial's log that say how far its evaluations are


@dataclass(frozen=True)
class Evaluation:
    """One way to evaluate a trained detector on the test split."""

    templates: Literal["nearest", "random"] = "nearest"
    """random: the control, every image gets a random template."""
    bank_ratio: float | None = None
    """Share of the trained detector's bank that is kept for this evaluation; None: the bank as trained."""
    bank_method: str | None = None
    """How that share is chosen: random or coreset."""

    @property
    def is_plain(self) -> bool:
        """Whether it is what ``thfr evaluate RUN`` does."""
        return self == Evaluation()


@dataclass(frozen=True)
class Trial:
    """What is trained and evaluated, completely: two equal trials give the same figures."""

    dataset: str
    category: str
    setting: dict[str, Any]
    """What a study varies, by the names it is reported under."""
    config: RunConfig
    """With its seed; ``weights_digest`` and ``dataset`` are filled in by training."""
    evaluations: tuple[Evaluation, ...]
    data: dict[str, Any]
    """:func:`thfr.data.fingerprint` of the category."""
    weights_file: str | None = None
    """SHA-256 of the weights file given; None: the backbone's own."""

    @property
    def seed(self) -> int:
        return self.config.training.seed

    def definition(self) -> dict[str, Any]:
        """The trial as plain values, from which :meth:`from_definition` makes it again."""
        return {
            "dataset": self.dataset,
            "category": self.category,
            "setting": self.setting,
            "config": self.config.model_dump(mode="json"),
            "evaluations": [asdict(evaluation) for evaluation in self.evaluations],
            "data": self.data,
            "weights_file": self.weights_file,
        }

    @classmethod
    def from_definition(cls, values: dict[str, Any]) -> Trial:
        """The inverse of :meth:`definition`."""
        config = config_from_values(values["config"], "trial")
        evaluations = tuple(Evaluation(**one) for one in values["evaluations"])
        return cls(**{**values, "config": config, "evaluations": evaluations})

    @property
    def name(self) -> str:
        """Unique among different trials, readable, and fit for a file name."""
        digest = hashlib.sha256(json.dumps(self.definition(), sort_keys=True).encode()).hexdigest()
        parts = [
            self.category,
            *(f"{key}={value}" for key, value in self.setting.items()),
            f"seed={self.seed}",
        ]
        readable = re.sub(r"[^A-Za-z0-9_.=+-]+", "_", "-".join(parts))[:120]
        return f"{readable}-{digest[:10]}"


def trial_path(out: Path, trial: Trial) -> Path:
    """Where a finished trial lies, or will lie."""
    old = out / OLD_TRIALS / f"{trial.name}.json"
    return old if old.is_file() else out / TRIALS / old.name


def write_trial(path: Path, trial: Trial, results: dict[str, Any]) -> None:
    """Write a finished trial, atomically: its definition and ``results``."""
    atomic_write_json(path, {"format": FORMAT, "name": trial.name, **trial.definition(), **results})


def read_trial(path: Path) -> dict[str, Any]:
    """Read a finished trial.

    Raises:
        InputError: the file cannot be read or is no trial.
    """
    values = read_object(path, "study", "remove it to repeat it")
    if values.get("format") not in (FORMAT, OLD_FORMAT):
        raise InputError(f"study: {path} is no trial of a study (format {FORMAT}); remove it")
    return values
