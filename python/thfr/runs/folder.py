"""The files of a run folder that say what the run is: metadata, data, figures, log."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from thfr.errors import InputError, located
from thfr.io import atomic_write_json
from thfr.plain import Plain
from thfr.runs import files
from thfr.runs.json_file import read_object


class RunMetadata(BaseModel):
    """What ``run.json`` holds. A method adds fields of its own."""

    model_config = ConfigDict(frozen=True, extra="allow")

    steps: int = Field(ge=0)
    images: int = Field(ge=0)
    """That were learnt from."""
    calibration_images: int = Field(default=0, ge=0)
    """Good images that only set the threshold."""
    train_seconds: float = Field(ge=0)
    peak_memory_bytes: int = Field(default=0, ge=0)
    device: str
    weights_digest: str | None = None
    """SHA-256 of the backbone weights."""
    templates: int | None = None
    notes: list[str] = Field(default_factory=list)
    """What was decided about the training images, or looks odd about them."""
    digests: dict[str, str] = Field(default_factory=dict)
    """File of the run -> SHA-256 (:mod:`thfr.runs.digest`); empty in older runs."""
    parent: dict[str, Any] | None = None
    """Of a run of ``thfr teach``: ``run``, ``digest`` and ``images`` of the one that it was made from."""
    lineage: list[dict[str, Any]] = Field(default_factory=list)
    """All its ancestors, the oldest first."""
    taught: list[dict[str, str]] = Field(default_factory=list)
    """``file`` and ``sha256`` of every image that it or an ancestor was taught."""
    taught_seconds: float = Field(default=0.0, ge=0)
    why: str = ""

    def as_dict(self) -> dict[str, Any]:
        """For JSON: the fields that were set."""
        return self.model_dump(mode="json", exclude_unset=True)


@dataclass(frozen=True)
class RunData(Plain):
    """What ``data.json`` holds: the data set that the run was trained on, so that it need not be named again."""

    dataset: str
    root: str
    category: str
    train: tuple[str, ...] | None = None
    """SHA-256 of each file of the training split, in its order; None in older runs."""


def is_finished(run: Path) -> bool:
    """Whether the folder holds a finished training."""
    return (Path(run) / files.RUN).is_file()


def read_metadata(run: Path) -> RunMetadata:
    """The metadata of a finished training; InputError, naming the file, if it is missing or damaged."""
    path = run / files.RUN
    try:
        return RunMetadata.model_validate(read_object(path, "run"))
    except ValidationError as error:
        raise InputError(f"run: {path} is damaged: {located(error)}") from error


def write_metadata(run: Path, metadata: RunMetadata) -> None:
    """Write ``run.json``, which marks the run as finished."""
    atomic_write_json(run / files.RUN, metadata.as_dict())


def read_data(run: Path) -> RunData:
    """Where the run's data lie; InputError if the run does not say so."""
    return RunData.from_dict(read_object(run / files.DATA, "run"), run / files.DATA)


def write_data(run: Path, data: RunData) -> None:
    """Write ``data.json``."""
    atomic_write_json(run / files.DATA, data.as_dict())


def append_log(run: Path, **values: Any) -> None:
    """Add a line to the run's log."""
    with (run / files.LOG).open("a", encoding="utf-8") as file:
        file.write(json.dumps(values) + "\n")


def is_claimed(run: Path) -> bool:
    """Whether ``run`` is a run folder already, finished or not.

    Raises:
        InputError: it is a file, or a folder that holds something else.
    """
    if run.exists() and not run.is_dir():
        raise InputError(f"train: expected a run folder, got the file {run}")
    if (run / files.CONFIG).is_file():
        return True
    if run.is_dir() and any(path.name != files.LOCK for path in run.iterdir()):
        raise InputError(f"train: {run} is not empty and not a run folder (no {files.CONFIG})")
    return False
