"""Scores of images on disk: ``scores.csv`` for people, ``scores.json`` for programs, beside the maps."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from thfr.data.notes import gathered
from thfr.errors import InputError
from thfr.io import atomic_path, atomic_write_json, csv_cell, write_map
from thfr.predictions import files
from thfr.predictions.findings import Finding
from thfr.predictions.scale import ColourScale, ScaleBuilder
from thfr.predictions.sources import Item
from thfr.runs.categories import Categories
from thfr.runs.json_file import read_object
from thfr.runs.threshold import Threshold, Verdict

COLUMNS = (
    "file", "kind", "score", "verdict", "findings", "mean", "max", "height", "width", "map", "overlay",
    "notes", "category",
)  # fmt: skip
FINDING_COLUMNS = ("file", "finding", *(field.name for field in fields(Finding)))
"""Of ``findings.csv``, a row a finding, numbered from 1 in each image."""


@dataclass(frozen=True)
class ImageResult:
    """One image's figures; ``score`` is the image score, ``mean`` and ``max`` are of the map at native
    size.
    """

    item: Item
    score: float
    verdict: Verdict | None
    """Of the run's threshold; None if it has none."""
    mean: float
    max: float
    height: int
    width: int
    notes: tuple[str, ...] = ()
    """What was decided about the image, or how it differs from the training images."""
    findings: tuple[Finding, ...] | None = None
    """Parts of the map above the threshold, the highest peak first; None if nobody asked for them."""
    drawn: bool = False
    """Whether there is a picture of it at ``item.overlay``."""
    category: str | None = None
    """That it was found to be of; None of a run on one category."""

    @classmethod
    def of(
        cls,
        item: Item,
        anomaly_map: np.ndarray,  # float32 [H,W]
        score: float,
        threshold: Threshold | None,
        notes: Sequence[str] = (),
        findings: Sequence[Finding] | None = None,
        category: str | None = None,
    ) -> ImageResult:
        """The figures of an image by its map and score."""
        verdict = None if threshold is None else threshold.verdict(score)
        mean, peak = float(anomaly_map.mean(dtype=np.float64)), float(anomaly_map.max())
        height, width = anomaly_map.shape
        found = None if findings is None else tuple(findings)
        told = tuple(notes)
        return cls(item, score, verdict, mean, peak, height, width, told, found, category=category)

    def row(self) -> dict[str, Any]:
        """For JSON and CSV, the keys being :data:`COLUMNS`; ``kind`` is None outside of data sets. A CSV has
        the number of findings.
        """
        item = self.item
        return {
            "file": item.name,
            "kind": None if item.sample is None else item.sample.kind,
            "score": self.score,
            "verdict": self.verdict,
            "findings": None if self.findings is None else [one.as_dict() for one in self.findings],
            "mean": self.mean,
            "max": self.max,
            "height": self.height,
            "width": self.width,
            "map": item.map,
            "overlay": item.overlay if self.drawn else None,
            "notes": list(self.notes),
            "category": self.category,
        }


@dataclass(frozen=True)
class Results:
    """Scores in the order of the images; maps and pictures are on disk, below ``out``."""

    out: Path
    images: tuple[ImageResult, ...]
    scale: ColourScale
    failed: dict[str, str]
    """File -> why it could not be read or drawn."""
    threshold: Threshold | None = None
    """By which the verdicts are; None of a run on several categories."""
    thresholds: Mapping[str, Threshold] = field(default_factory=dict)
    """Of a run on several categories: by which the images found to be of each are judged."""
    notes: tuple[str, ...] = ()
    """Those of the images by kind, and files that were not looked at."""
    source: Mapping[str, Any] | None = None
    """What the scores depend on, to find out later whether they are still those of that run and data."""

    def as_dict(self) -> dict[str, Any]:
        """For JSON; ``scores.json`` also holds ``source``, if there is one."""
        return {
            "images": [image.row() for image in self.images],
            "failed": [{"file": name, "error": error} for name, error in self.failed.items()],
            "scale": self.scale.as_dict(),
            "threshold": None if self.threshold is None else self.threshold.as_dict(),
            "thresholds": {name: one.as_dict() for name, one in self.thresholds.items()},
            "notes": list(self.notes),
        }


class ResultsWriter:
    """Writes maps as they come and the tables at the end; whatever was in ``out`` before is invalid from the
    start.

    Args:
        scale: of the run; None: that of the maps that come.
        notes: on what the images come from.
        categories: of a run on several: whose thresholds judge instead.
    """

    def __init__(
        self,
        out: Path,
        threshold: Threshold | None,
        scale: ColourScale | None,
        notes: Sequence[str] = (),
        categories: Categories | None = None,
    ) -> None:
        self.out, self._threshold, self._scale, self._notes = out, threshold, scale, tuple(notes)
        self._categories = categories
        self._builder = ScaleBuilder()
        self.images: list[ImageResult] = []
        self.failed: dict[str, str] = {}
        invalidate(out)

    def add(
        self,
        item: Item,
        anomaly_map: np.ndarray,
        score: float,
        notes: Sequence[str] = (),
        findings: Sequence[Finding] | None = None,
        category: str | None = None,
    ) -> ImageResult:
        """Write an image's map, float32 [H,W]; see :meth:`ImageResult.of`."""
        write_map(self.out / item.map, anomaly_map)
        if self._scale is None:
            self._builder.add(anomaly_map)
        threshold = self._threshold_of(category)
        result = ImageResult.of(item, anomaly_map, score, threshold, notes, findings, category)
        self.images.append(result)
        return result

    @property
    def notes(self) -> tuple[str, ...]:
        """On all images so far, one for each kind of note, and on what they come from."""
        return (
            *gathered((image.item.name, note) for image in self.images for note in image.notes),
            *self._notes,
        )

    @cached_property
    def scale(self) -> ColourScale:
        """The colour scale, with the threshold as its limit if there is one; of a run without one: once
        all maps are there.

        Raises:
            InputError: no map has come, and the run has no scale.
        """
        return limited(self._unlimited, self._threshold)

    @cached_property
    def _unlimited(self) -> ColourScale:
        return self._scale or self._builder.from_mixed("the images of this call")

    def scale_of(self, category: str | None) -> ColourScale:
        """:attr:`scale` with the limit of images found to be of a category."""
        return self.scale if category is None else limited(self._unlimited, self._threshold_of(category))

    def _threshold_of(self, category: str | None) -> Threshold | None:
        return self._threshold if self._categories is None else self._categories.threshold_of(category)

    def finish(self, source: Mapping[str, Any] | None = None, drawn: frozenset[str] = frozenset()) -> Results:
        """Write the tables. ``drawn``: the names of the images whose overlay is there."""
        images = tuple(replace(image, drawn=image.item.name in drawn) for image in self.images)
        thresholds = {} if self._categories is None else self._categories.thresholds
        results = Results(
            self.out, images, self.scale, self.failed, self._threshold, thresholds, self.notes, source
        )
        _write_csv(self.out / files.SCORES_CSV, COLUMNS, map(score_row, images))
        if any(image.findings is not None for image in images):
            _write_csv(self.out / files.FINDINGS_CSV, FINDING_COLUMNS, _finding_rows(images))
        values = results.as_dict()
        atomic_write_json(
            self.out / files.SCORES_JSON, values if source is None else {**values, "source": dict(source)}
        )
        return results


def limited(scale: ColourScale, threshold: Threshold | None) -> ColourScale:
    """The colour scale with the threshold, if there is one, as its limit."""
    if threshold is None:
        return scale
    return scale.with_limit(threshold.value, f"a quantile of {threshold.in_short()}")


def score_row(image: ImageResult) -> dict[str, Any]:
    """Of a table: the number of findings, and all notes in one text."""
    count = None if image.findings is None else len(image.findings)
    return {**image.row(), "findings": count, "notes": "; ".join(image.notes)}


def _finding_rows(images: Sequence[ImageResult]) -> Iterator[dict[str, Any]]:
    for image in images:
        for number, finding in enumerate(image.findings or (), 1):
            yield {"file": image.item.name, "finding": number, **finding.as_dict()}


def _write_csv(path: Path, columns: Sequence[str], rows: Iterable[dict[str, Any]]) -> None:
    with atomic_path(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, columns)
        writer.writeheader()
        writer.writerows({name: csv_cell(value) for name, value in row.items()} for row in rows)


def invalidate(out: Path) -> None:
    """Remove the tables of an earlier call, so that a call that fails leaves none that look like its own.

    Raises:
        InputError: they cannot be removed.
    """
    names = (files.SCORES_JSON, files.SCORES_CSV, files.FINDINGS_CSV, files.REPORT)
    for path in (*(out / name for name in names), *(out / files.REPORTS).glob("*.html")):
        try:
            path.unlink(missing_ok=True)
        except OSError as error:
            raise InputError(f"predict: cannot replace {path}: {error}") from error


@dataclass(frozen=True)
class StoredScores:
    """What ``scores.json`` says of a data set's images, by :attr:`Item.name`."""

    scores: dict[str, float]
    maps: dict[str, Path]
    scale: ColourScale
    source: Any


def read_scores(out: Path) -> StoredScores | None:
    """The scores in a folder of predictions; None if there are none, or not whole ones."""
    path = out / files.SCORES_JSON
    try:
        values = read_object(path, "predictions")
        rows = {str(row["file"]): row for row in values["images"]}
        return StoredScores(
            {name: float(row["score"]) for name, row in rows.items()},
            {name: out / row["map"] for name, row in rows.items()},
            ColourScale.from_dict(values["scale"], path),
            values.get("source"),
        )
    except (InputError, KeyError, TypeError, ValueError):
        return None
