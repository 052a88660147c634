"""Another run in a model's place while requests come in: after teaching, or when its folder has changed."""

from __future__ import annotations

import logging
import threading
from collections.abc import Mapping
from pathlib import Path

from fastapi import FastAPI
from pydantic import BaseModel, ConfigDict, Field
from starlette.concurrency import run_in_threadpool

from thfr.deploy.inspections import InspectionLog
from thfr.deploy.model import FolderModel, Model
from thfr.deploy.serve.history import Text
from thfr.deploy.serve.inspector import Inspector
from thfr.deploy.serve.schema import problems
from thfr.errors import InputError
from thfr.runs import files

_LOGGER = logging.getLogger(__name__)


class Swap(BaseModel):
    """Which run is to answer, and who says so."""

    model_config = ConfigDict(extra="forbid")
    run: str | None = Field(
        None, max_length=255, description="one of the runs served or taught; null: the same one, read anew"
    )
    who: Text
    why: Text


class Swapped(BaseModel):
    """The run that answers from now on, and the one that did before."""

    model: str
    run: str
    before: str


class Swapper:
    """Opens runs and puts them in the place of others, one at a time.

    Args:
        folders: of the models that are served from the start, by their names.
        taught: folder of runs that are taught from the page.
        log: keeps what was swapped, so that it holds after a restart.
    """

    def __init__(
        self,
        folders: Mapping[str, Path],
        taught: Path | None = None,
        log: InspectionLog | None = None,
        device: str = "auto",
    ) -> None:
        self._folders, self._taught, self._log, self._device = dict(folders), taught, log, device
        self._now: dict[str, str] = {}  # name -> run, where that is another one
        self._at_work = threading.Lock()

    def runs(self) -> dict[str, Path]:
        """Name -> folder of the runs that may answer. A request's word is looked up here, never opened."""
        taught = self._taught.iterdir() if self._taught is not None and self._taught.is_dir() else ()
        return {path.name: path for path in taught if (path / files.RUN).is_file()} | self._folders

    def models(self) -> dict[str, Model]:
        """The models to start with: after a restart those that were swapped in by the log. One that is gone
        is told, and what it had replaced answers.
        """
        runs = self.runs()
        for name in self._folders:
            last = None if self._log is None else self._log.last_swap(name)
            if last is not None and last["run"] in runs:
                self._now[name] = last["run"]
            elif last is not None:
                _LOGGER.warning(
                    "serve: %s: %s, put in its place, is gone; it answers itself", name, last["run"]
                )
        return {name: FolderModel(runs[self._now.get(name, name)], self._device) for name in self._folders}

    def swap(self, inspector: Inspector, name: str, swap: Swap) -> Swapped:
        """Open a run, try it, and let it answer under this name. If that fails, nothing has changed.

        Raises:
            UnknownModel: nothing is served under this name.
            InputError: no such run, or one that cannot be used.
        """
        with self._at_work:
            model = inspector.worker(name).model
            known, run = self.runs(), swap.run or self._now.get(name, name)
            if run not in known:
                raise InputError(f"swap: run: expected one of {', '.join(sorted(known))}, got {run!r}")
            opened = FolderModel(known[run], self._device)
            opened.check()
            if self._log is not None:
                self._log.note_swap(name, run, swap.who, swap.why)
            inspector.put(name, opened)
            self._now[name] = run
            if run in inspector.workers and run not in (*self._folders, name):
                inspector.remove(run)  # it was served beside until now
            return Swapped(model=name, run=opened.name, before=model.name)

    def reload(self, inspector: Inspector) -> None:
        """Read every model anew, as SIGHUP asks for; one that cannot be read is told and goes on as it is."""
        for name in list(inspector.workers):
            try:
                done = self.swap(inspector, name, Swap(run=None, who="SIGHUP", why="reload"))
                _LOGGER.warning("serve: %s is answered by %s, read anew", name, done.run)
            except Exception as error:
                _LOGGER.error("serve: %s could not be read anew and answers as before: %s", name, error)


def add_swapping(app: FastAPI, inspector: Inspector, swapper: Swapper) -> None:
    """Add the route that swaps."""

    @app.post("/v1/models/{name}/swap", responses=problems(400, 401, 404, 413, 422), tags=["status"])
    async def swap_model(name: str, swap: Swap) -> Swapped:
        """Let another run answer under this name, or the same one read anew. What the old one has taken it
        still answers; if the new one cannot be used, the old one stays.
        """
        return await run_in_threadpool(swapper.swap, inspector, name, swap)
