"""The ASGI application: routes of inspection, and what becomes of errors."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from importlib.metadata import version
from typing import Annotated, Any

from fastapi import Depends, FastAPI, Query, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, PlainTextResponse
from prometheus_client import CONTENT_TYPE_LATEST
from pydantic import StringConstraints
from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException
from starlette.middleware.trustedhost import TrustedHostMiddleware

from thfr.deploy.inspections import InspectionLog
from thfr.deploy.model import Model
from thfr.deploy.serve.batching import Closed, QueueFull
from thfr.deploy.serve.gate import Gate
from thfr.deploy.serve.history import add_history
from thfr.deploy.serve.images import DamagedImage, OversizedImage, UnsupportedImage
from thfr.deploy.serve.inspector import Inspector, MapKind, UnknownModel, Upload, Wish
from thfr.deploy.serve.page import add_page
from thfr.deploy.serve.schema import Batch, Drift, Health, Inspection, ModelInfo, Models, Problem, problems
from thfr.deploy.serve.settings import Settings
from thfr.deploy.serve.swapping import Swapper, add_swapping
from thfr.deploy.serve.teaching import Busy, Teacher, add_teaching
from thfr.deploy.sinks.sender import Sender
from thfr.errors import InputError, located
from thfr.predictions.judging import EVERYWHERE, Box, NothingToLookAt, Rules

_STATUS: dict[type[Exception], int] = {
    UnknownModel: 404,
    UnsupportedImage: 415,
    OversizedImage: 422,
    DamagedImage: 422,
    NothingToLookAt: 422,
    InputError: 422,
    Busy: 409,
    Closed: 503,
    QueueFull: 503,
    asyncio.TimeoutError: 504,
}
_REFUSALS = (400, 401, 404, 408, 413, 415, 422, 503, 504)
_RAW = {"", "application/octet-stream", "application/x-www-form-urlencoded"}  # the last: curl --data-binary
_BYTES = {"type": "string", "format": "binary"}

ModelName = Annotated[str | None, Query(description="default: the first one served", max_length=255)]
MapWish = Annotated[MapKind, Query(description="png: heat map over the image; tiff: the map as float32")]
MinArea = Annotated[int | None, Query(ge=1, le=10**9, description="leave out findings of fewer pixels")]
_BOX = r"^-?\d{1,9}(,-?\d{1,9}){3}$"
Regions = Annotated[
    Sequence[Annotated[str, StringConstraints(pattern=_BOX)]],
    Query(max_length=100, description="x,y,width,height: look only there (and in the others given)"),
]
Ignores = Annotated[
    Sequence[Annotated[str, StringConstraints(pattern=_BOX)]],
    Query(max_length=100, description="x,y,width,height: do not look there"),
]


def create_app(
    models: Mapping[str, Model],
    settings: Settings,
    log: InspectionLog | None = None,
    senders: Sequence[Sender] = (),
    teacher: Teacher | None = None,
    swapper: Swapper | None = None,
) -> FastAPI:
    """The service. The application owns ``log`` and ``senders`` and closes them when it shuts down.

    Args:
        senders: where each result is sent.
        teacher: teaches models from feedback; needs the log.
        swapper: lets other runs answer in a model's place.

    Raises:
        InputError: no model.
    """
    inspector = Inspector(models, settings, log, senders)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield
        await asyncio.get_running_loop().run_in_executor(None, inspector.close)

    app = FastAPI(
        title="thfr serve",
        version=version("thfr-ext"),
        description="Industrial image anomaly detection: scores, verdicts and findings of images.",
        lifespan=lifespan,
        docs_url=None,  # its scripts come from another host
        redoc_url=None,
    )
    app.state.inspector = inspector
    _add_errors(app, inspector)
    _add_inspection(app, inspector)
    _add_status(app, inspector, teacher)
    if log is not None:
        add_history(app, inspector, log)
    if teacher is not None:
        add_teaching(app, inspector, teacher)
    if swapper is not None:
        add_swapping(app, inspector, swapper)
    add_page(app)
    app.add_middleware(
        Gate,
        token=settings.token,
        max_bytes=settings.max_bytes,
        refused=lambda status: inspector.metrics.refused.labels(status).inc(),
    )
    app.add_middleware(TrustedHostMiddleware, allowed_hosts=list(settings.hosts))
    return app


def _add_errors(app: FastAPI, inspector: Inspector) -> None:
    def refuse(status: int, detail: str, headers: Mapping[str, str] | None = None) -> JSONResponse:
        inspector.metrics.refused.labels(status).inc()
        return JSONResponse({"detail": detail}, status, headers)

    async def known(_: Request, error: Exception) -> Response:
        status = next(code for kind, code in _STATUS.items() if isinstance(error, kind))
        headers = {}
        if isinstance(error, (QueueFull, Closed)):
            headers["Retry-After"] = str(getattr(error, "retry_after", 1))
        detail = "the answer took too long" if status == 504 else str(error)
        return refuse(status, detail, headers)

    async def http(_: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        return refuse(error.status_code, str(error.detail), error.headers)

    async def invalid(_: Request, error: Exception) -> Response:
        assert isinstance(error, RequestValidationError)
        return refuse(422, located(error))

    for kind in _STATUS:
        app.add_exception_handler(kind, known)
    app.add_exception_handler(HTTPException, http)
    app.add_exception_handler(RequestValidationError, invalid)


def _add_inspection(app: FastAPI, inspector: Inspector) -> None:
    settings = inspector.settings

    def wish(
        model: ModelName = None,
        map: MapWish = "none",
        min_area: MinArea = None,
        region: Regions = (),
        ignore: Ignores = (),
    ) -> Wish:
        name = inspector.worker(model).name  # an unknown one is told before the body is read
        where = settings.where.get(name, EVERYWHERE).with_boxes(
            tuple(Box.parse("inspect: region", text) for text in region),
            tuple(Box.parse("inspect: ignore", text) for text in ignore),
        )
        area = settings.min_area if min_area is None else min_area
        return Wish(model, map, Rules(area, settings.pixels_per_mm, where))

    asked = Depends(wish)

    @app.post(
        "/v1/inspect",
        response_model=Inspection,
        responses=problems(*_REFUSALS),
        openapi_extra=_body(_BYTES, "image/png", "image/jpeg", "application/octet-stream"),
        tags=["inspect"],
    )
    async def inspect(request: Request, wanted: Wish = asked) -> Inspection:
        """Inspect one image: the body is its bytes, or a form with the file `image`."""
        uploads = await _in_time(lambda: _uploads(request), settings.timeout)
        if len(uploads) != 1:
            raise HTTPException(422, f"inspect: expected one file `image`, got {len(uploads)}")
        (found,) = await inspector.inspect(uploads, wanted)
        if isinstance(found, InputError):
            raise found
        return found

    @app.post(
        "/v1/inspect/batch",
        response_model=Batch,
        responses=problems(*_REFUSALS),
        openapi_extra=_body({"type": "array", "minItems": 1, "items": _BYTES}),
        tags=["inspect"],
    )
    async def inspect_batch(request: Request, wanted: Wish = asked) -> Batch:
        """Inspect several images, each a file `image` of a form; one that cannot be used does not stop the
        others.
        """
        uploads = await _in_time(lambda: _form_uploads(request), settings.timeout)
        if not uploads:
            raise HTTPException(422, "inspect: expected files `image`, got none")
        if len(uploads) > settings.max_images:
            raise HTTPException(
                413, f"inspect: expected at most {settings.max_images} images, got {len(uploads)}"
            )
        results: list[Inspection | Problem] = []
        for found in await inspector.inspect(uploads, wanted):
            if isinstance(found, InputError):
                inspector.metrics.refused.labels(_STATUS[type(found)]).inc()
                results.append(Problem(detail=str(found)))
            else:
                results.append(found)
        return Batch(results=results)


def _add_status(app: FastAPI, inspector: Inspector, teacher: Teacher | None) -> None:
    @app.get("/v1/models", responses=problems(401), tags=["status"])
    async def models() -> Models:
        """The models that answer, with their thresholds and queues."""
        found = []
        for name, worker in inspector.workers.items():
            model, threshold = worker.model, worker.model.threshold
            limit = worker.limit
            of_run = threshold if threshold is not None and threshold.value == limit else None
            found.append(
                ModelInfo(
                    name=name,
                    run=model.name,
                    kind=model.kind,
                    input_size=model.input_size,
                    threshold=limit,
                    threshold_source=of_run.in_short() if of_run else (None if limit is None else "by hand"),
                    expected_false_alarm_rate=of_run.expected_rate if of_run else None,
                    waiting=worker.depth,
                    drift=Drift(**model.drift.report()),
                    teachable=teacher is not None and teacher.can_teach(model),
                )
            )
        return Models(models=found)

    @app.get("/healthz", tags=["status"])
    async def healthz() -> Health:
        """The service is up."""
        return Health(status="ok", version=app.version)

    @app.get("/metrics", response_class=PlainTextResponse, responses=problems(401), tags=["status"])
    async def metrics() -> Response:
        """For Prometheus."""
        return Response(inspector.metrics.text(), media_type=CONTENT_TYPE_LATEST)


async def _in_time(
    read: Callable[[], Awaitable[list[Upload]]],
    seconds: float,
) -> list[Upload]:
    try:
        return await asyncio.wait_for(read(), seconds)
    except asyncio.TimeoutError:
        raise HTTPException(408, f"the body did not arrive within {seconds:g} s") from None


def _kind(request: Request) -> str:
    """Of the body, without its parameters."""
    return request.headers.get("content-type", "").partition(";")[0].strip().lower()


async def _uploads(request: Request) -> list[Upload]:
    kind = _kind(request)
    if kind == "multipart/form-data":
        return await _form_uploads(request)
    if kind not in _RAW and not kind.startswith("image/"):
        raise HTTPException(
            415, f"inspect: expected image/*, application/octet-stream or multipart/form-data, got {kind!r}"
        )
    return [Upload(await request.body(), None)]


async def _form_uploads(request: Request) -> list[Upload]:
    if (kind := _kind(request)) != "multipart/form-data":
        raise HTTPException(415, f"inspect: expected multipart/form-data, got {kind!r}")
    async with request.form(max_files=1000, max_fields=1000) as form:
        files = [value for value in form.getlist("image") if isinstance(value, UploadFile)]
        return [Upload(await file.read(), _printable(file.filename)) for file in files]


def _printable(name: str | None) -> str | None:
    """A client's file name as far as every database and terminal can take it; it is never a path here."""
    return "".join(filter(str.isprintable, name or ""))[:255] or None


def _body(image: dict[str, Any], *raw: str) -> dict[str, Any]:
    """OpenAPI's words for a form with ``image``, or the bytes of one of these types."""
    form = {"type": "object", "required": ["image"], "properties": {"image": image}}
    schemas = {**dict.fromkeys(raw, _BYTES), "multipart/form-data": form}
    content = {kind: {"schema": schema} for kind, schema in schemas.items()}
    return {"requestBody": {"required": True, "content": content}}
