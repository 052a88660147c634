"""Teaching from the page: what people called good becomes part of a new run, served beside the old one."""

from __future__ import annotations

import tempfile
import threading
from pathlib import Path
from typing import Any

from fastapi import FastAPI
from pydantic import BaseModel, ConfigDict, Field
from starlette.concurrency import run_in_threadpool

from thfr.deploy.exported import is_exported
from thfr.deploy.inspections import InspectionLog
from thfr.deploy.model import FolderModel, Model
from thfr.deploy.serve.history import Text
from thfr.deploy.serve.inspector import Inspector
from thfr.deploy.serve.schema import problems
from thfr.deploy.teach import Taught, teach
from thfr.errors import InputError
from thfr.runs.threshold import Verdict


class Busy(Exception):
    """Another teaching is at work."""


class Lesson(BaseModel):
    """Who teaches, and why."""

    model_config = ConfigDict(extra="forbid")
    who: Text
    why: Text


class Changed(BaseModel):
    """What an image was to the model before, and what it is to the new one."""

    id: int | None = Field(description="number in the log; null for the images that set the threshold")
    file: str | None
    role: str = Field(description="taught: called good; checked: called bad; held out: set the threshold")
    score_before: float
    score_after: float
    verdict_before: Verdict | None
    verdict_after: Verdict | None


class LessonLearnt(BaseModel):
    """A model that was taught; it answers from now on, beside the one that it was made from."""

    model: str
    parent: str
    taught: int
    threshold_before: float | None
    threshold: float
    changes: list[Changed]
    notes: list[str]


class Teacher:
    """Makes runs in ``folder`` from the feedback in the log, one at a time."""

    def __init__(self, log: InspectionLog, folder: Path, device: str = "auto") -> None:
        self._log, self._folder, self._device = log, folder, device
        self._at_work = threading.Lock()

    def can_teach(self, model: Model) -> bool:
        """Whether it is a run, of which others can be made."""
        return isinstance(model, FolderModel) and not is_exported(model.folder)

    def teach(self, name: str, model: Model, lesson: Lesson) -> tuple[FolderModel, LessonLearnt]:
        """Teach the model that answers under this name what people called good, and check it on what they
        called bad.

        Raises:
            Busy: it is teaching already.
            InputError: nothing was called good, or the model cannot be taught.
        """
        if not isinstance(model, FolderModel) or not self.can_teach(model):
            raise InputError(f"teach: {model.name} is no run: teach the run that it was exported from")
        if not self._at_work.acquire(blocking=False):
            raise Busy("teach: another teaching is at work")
        try:
            return self._teach(name, model, lesson)
        finally:
            self._at_work.release()

    def _teach(self, name: str, model: FolderModel, lesson: Lesson) -> tuple[FolderModel, LessonLearnt]:
        rows = {str(row["id"]): row for row in self._log.originals(name)}
        if not any(row["truth"] == "good" for row in rows.values()):
            raise InputError(f"teach: no image of {name} that is kept was called good")
        out = self._free_folder(model.name)
        with tempfile.TemporaryDirectory(prefix="thfr-") as scratch:
            paths: dict[str, list[Path]] = {"good": [], "bad": []}
            for number, row in rows.items():
                data = self._log.original(row["id"])
                if data is not None:  # else it was dropped meanwhile
                    path = Path(scratch) / number
                    path.write_bytes(data)
                    paths[row["truth"]].append(path)
            why = f"{lesson.why} ({lesson.who})"
            found = teach(
                model.folder, paths["good"], out, check=[paths["bad"]], why=why, device=self._device
            )
        return FolderModel(out, self._device), _learnt(found, name, Path(scratch), rows)

    def _free_folder(self, name: str) -> Path:
        """``NAME-taught-N`` for the first N that is free; a run that was taught counts on."""
        stem = name.rpartition("-taught-")[0] or name
        number = 1
        while (out := self._folder / f"{stem}-taught-{number}").exists():
            number += 1
        return out


def _learnt(found: Taught, parent: str, scratch: Path, rows: dict[str, dict[str, Any]]) -> LessonLearnt:
    changes = []
    for change in found.changes:
        path = Path(change.image)
        row = rows[path.name] if path.parent == scratch else None
        changes.append(
            Changed(
                id=None if row is None else row["id"],
                file=path.name if row is None else row["file"],
                role=change.role,
                score_before=change.before,
                score_after=change.after,
                verdict_before=change.verdict_before,
                verdict_after=change.verdict_after,
            )
        )
    return LessonLearnt(
        model=found.run.name,
        parent=parent,
        taught=len(found.of("taught")),
        threshold_before=None if found.before is None else found.before.value,
        threshold=found.threshold.value,
        changes=changes,
        notes=found.metadata.notes,
    )


def add_teaching(app: FastAPI, inspector: Inspector, teacher: Teacher) -> None:
    """Add the route that teaches."""

    @app.post("/v1/models/{name}/teach", responses=problems(400, 401, 404, 409, 413, 422), tags=["log"])
    async def teach_model(name: str, lesson: Lesson) -> LessonLearnt:
        """Add what people called good to what this model keeps of good products: a new model, which answers
        under a name of its own. It takes seconds to minutes.
        """
        model = inspector.worker(name).model
        taught, learnt = await run_in_threadpool(teacher.teach, name, model, lesson)
        await run_in_threadpool(inspector.put, taught.name, taught)
        return learnt
