"""A cell of a study: one training, and how the detector it gives is evaluated. One JSON file each."""

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

FORMAT = "thfr-cell-1"
CELLS, RUNS, LOGS = "cells", "runs", "logs"
STAGE = "evaluation "  # so begin the lines of a cell's log that say how far its evaluations are


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
class Cell:
    """What is trained and evaluated, completely: two equal cells give the same figures."""

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
        """The cell as plain values, from which :meth:`from_definition` makes it again."""
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
    def from_definition(cls, values: dict[str, Any]) -> Cell:
        """The inverse of :meth:`definition`."""
        config = config_from_values(values["config"], "cell")
        evaluations = tuple(Evaluation(**one) for one in values["evaluations"])
        return cls(**{**values, "config": config, "evaluations": evaluations})

    @property
    def name(self) -> str:
        """Unique among different cells, readable, and fit for a file name."""
        digest = hashlib.sha256(json.dumps(self.definition(), sort_keys=True).encode()).hexdigest()
        parts = [
            self.category,
            *(f"{key}={value}" for key, value in self.setting.items()),
            f"seed={self.seed}",
        ]
        readable = re.sub(r"[^A-Za-z0-9_.=+-]+", "_", "-".join(parts))[:120]
        return f"{readable}-{digest[:10]}"


def cell_path(out: Path, cell: Cell) -> Path:
    """Where a finished cell lies."""
    return out / CELLS / f"{cell.name}.json"


def write_cell(path: Path, cell: Cell, results: dict[str, Any]) -> None:
    """Write a finished cell, whole or not at all: its definition and ``results``."""
    atomic_write_json(path, {"format": FORMAT, "name": cell.name, **cell.definition(), **results})


def read_cell(path: Path) -> dict[str, Any]:
    """Read a finished cell.

    Raises:
        InputError: the file cannot be read or is no cell.
    """
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(
            f"study: the cell {path} cannot be read ({error}); remove it to repeat it"
        ) from error
    if not isinstance(values, dict) or values.get("format") != FORMAT:
        raise InputError(f"study: {path} is no cell of a study (format {FORMAT}); remove it")
    return values
