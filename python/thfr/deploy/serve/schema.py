"""The JSON of the service."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, Field

from thfr.predictions.findings import Finding
from thfr.runs.threshold import Verdict


class Problem(BaseModel):
    """Why a request was refused."""

    detail: str


class Inspected(BaseModel):
    """What is known of an image that was inspected."""

    model: str
    file: str | None = Field(description="the file name that the client gave")
    score: float = Field(description="larger is more anomalous")
    verdict: Verdict | None = Field(description="null if the model has no threshold")
    threshold: float | None = Field(description="a score above it is bad")
    findings: list[Finding] = Field(
        description="parts of the map above the threshold, the highest peak first"
    )
    height: int
    width: int
    ms: float = Field(description="milliseconds from the decoded image to its score, waiting included")


class Inspection(Inspected):
    """What was found on one image."""

    id: int | None = Field(description="number in the inspection log; null without a log")
    map: str | None = Field(description="base64: the PNG or TIFF asked for by `map`")


class Batch(BaseModel):
    """The answers in the order of the images: an inspection, or why that image was refused."""

    results: list[Inspection | Problem]


class Shift(BaseModel):
    """How far the last images lie from the good ones of calibration."""

    psi: float = Field(description="population stability index")
    chance: float = Field(description="what 99 of 100 windows without drift stay below")
    level: Literal["stable", "moderate", "drifted"]


class Drift(BaseModel):
    """Of the last images; null where there is no reference, or too few images."""

    images: int
    scores: Shift | None
    features: Shift | None


class ModelInfo(BaseModel):
    """One model that answers."""

    name: str
    run: str = Field(description="name of the folder that answers: another one than `name` after a swap")
    kind: str
    input_size: tuple[int, int] = Field(description="height and width of a prepared image in pixels")
    threshold: float | None
    threshold_source: str | None
    expected_false_alarm_rate: float | None
    waiting: int
    drift: Drift
    teachable: bool = Field(description="whether it can be taught from here")


class Models(BaseModel):
    """All of them; the first is the one that is asked without a name."""

    models: list[ModelInfo]


class Health(BaseModel):
    """The service answers."""

    status: Literal["ok"]
    version: str


def problems(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """OpenAPI entries of the error answers."""
    return {status: {"model": Problem, "description": REASONS[status]} for status in statuses}


REASONS = {
    400: "The body cannot be parsed",
    401: "The token is missing or wrong",
    404: "Not found",
    405: "The method is not allowed here",
    409: "Another teaching is at work",
    408: "The body did not arrive in time",
    413: "The body is too large, or holds too many images",
    415: "The image is in none of the formats PNG, JPEG, BMP, TIFF, WebP",
    422: "The image is damaged or has too many pixels, or a parameter is wrong",
    503: "The queue is full, or the service shuts down; see Retry-After",
    504: "The answer took too long",
}
