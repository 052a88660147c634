"""Routes of the inspection log: history, pictures, feedback, thresholds set by hand."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import FastAPI, Path, Query, Response
from pydantic import BaseModel, ConfigDict, Field
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException

from thfr.deploy.inspections import InspectionLog
from thfr.deploy.serve.inspector import Inspector
from thfr.deploy.serve.schema import Inspected, problems
from thfr.runs.threshold import Verdict

_LARGEST = 2**31 - 1
Number = Annotated[int, Path(ge=1, le=_LARGEST)]
Text = Annotated[str, Field(min_length=1, max_length=500, pattern=r"^[^\x00]*\S[^\x00]*$")]


class Logged(Inspected):
    """An inspection in the log."""

    id: int
    time: float = Field(description="seconds since 1970, UTC")
    sha256: str = Field(description="of the file's bytes")
    truth: Verdict | None = Field(description="what a person said of it last")


class History(BaseModel):
    """The newest first; `next` is the `before` of the next page, null on the last."""

    inspections: list[Logged]
    next: int | None


class Feedback(BaseModel):
    """What a person says of an inspected product."""

    model_config = ConfigDict(extra="forbid")
    truth: Verdict
    who: Text


class NewThreshold(BaseModel):
    """A threshold set by hand."""

    model_config = ConfigDict(extra="forbid")
    value: float = Field(allow_inf_nan=False)
    who: Text
    why: Text


class SetThreshold(BaseModel):
    """A threshold that was set by hand."""

    time: float
    value: float
    who: str
    why: str


class ScoresOfModel(BaseModel):
    """Scores of a model for its histogram, by what people said, and the thresholds set by hand."""

    good: list[float]
    bad: list[float]
    unknown: list[float]
    calibration: list[float] = Field(description="good images that the run's threshold was set by")
    threshold: float | None
    history: list[SetThreshold]


def add_history(app: FastAPI, inspector: Inspector, log: InspectionLog) -> None:
    """Add the routes that need a log."""

    @app.get("/v1/inspections", responses=problems(401, 422), tags=["log"])
    async def inspections(
        model: Annotated[str | None, Query(max_length=255, pattern=r"^[^\x00]*$")] = None,
        verdict: Verdict | None = None,
        truth: Verdict | None = None,
        text: Annotated[
            str | None, Query(max_length=255, pattern=r"^[^\x00]*$", description="part of the file's name")
        ] = None,
        before: Annotated[int | None, Query(ge=1, le=_LARGEST)] = None,
        after: Annotated[int | None, Query(ge=0, le=_LARGEST)] = None,
        limit: Annotated[int, Query(ge=1, le=500)] = 50,
    ) -> History:
        """Search the log."""
        wanted: dict[str, Any] = {"model": model, "verdict": verdict, "truth": truth, "text": text}
        wanted |= {"before": before, "after": after, "limit": limit + 1}
        found = await run_in_threadpool(log.search, **wanted)
        rows = [Logged(**row) for row in found[:limit]]
        return History(inspections=rows, next=rows[-1].id if len(found) > limit else None)

    @app.get(
        "/v1/inspections/{number}/picture",
        response_class=Response,
        responses={200: {"content": {"image/png": {}}}, **problems(401, 404, 422)},
        tags=["log"],
    )
    async def picture(number: Number) -> Response:
        """The heat map over the image, at most 512 pixels wide and high."""
        found = await run_in_threadpool(log.picture, number)
        if found is None:
            raise HTTPException(404, f"inspections: no picture of {number}")
        return Response(found, media_type="image/png")

    @app.post(
        "/v1/inspections/{number}/feedback",
        status_code=204,
        responses=problems(400, 401, 404, 413, 422),
        tags=["log"],
    )
    async def feedback(number: Number, said: Feedback) -> None:
        """Say whether the product was good or bad; the last word counts."""
        if not await run_in_threadpool(log.say, number, said.truth, said.who):
            raise HTTPException(404, f"inspections: no inspection {number}")

    @app.get("/v1/models/{name}/scores", responses=problems(401, 404, 422), tags=["log"])
    async def scores(name: str) -> ScoresOfModel:
        """The last 10,000 scores, of the run that answers now; and the thresholds set for it by hand."""
        worker = inspector.worker(name)
        threshold, last = worker.model.threshold, await run_in_threadpool(log.last_swap, name)
        since = 0.0 if last is None else last["time"]
        return ScoresOfModel(
            **await run_in_threadpool(log.scores, name, since),
            calibration=[] if threshold is None else list(threshold.scores),
            threshold=worker.limit,
            history=[
                SetThreshold(**row) for row in await run_in_threadpool(log.thresholds, worker.model.name)
            ],
        )

    @app.post(
        "/v1/models/{name}/threshold",
        status_code=204,
        responses=problems(400, 401, 404, 413, 422),
        tags=["log"],
    )
    async def threshold(name: str, new: NewThreshold) -> None:
        """Set the threshold by hand: it holds from now on, and after a restart with the same log."""
        inspector.worker(name)
        await run_in_threadpool(inspector.set_limit, name, new.value, new.who, new.why)
