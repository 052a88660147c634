"""Score images and write maps, pictures and tables: what ``thfr predict`` does."""

from __future__ import annotations

import csv
import os
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from tqdm import tqdm

from thfr.data import Dataset
from thfr.data.parallel import parallel_map, usable_cpus
from thfr.errors import InputError
from thfr.inference.calibration import good_scale
from thfr.io import atomic_path, atomic_write_json, read_image, read_map, write_map
from thfr.methods import Detector
from thfr.predictions.scale import ColourScale, ScaleBuilder
from thfr.predictions.sources import Item, collect
from thfr.runs.threshold import Threshold, Verdict
from thfr.visualization import Entry, Report, overlay, write_report
from thfr.visualization.gallery import UNKNOWN

COLUMNS = ("file", "kind", "score", "verdict", "mean", "max", "height", "width", "map", "overlay")
_REPORTED = 48  # images in a report, those with the highest scores
_AHEAD = 2  # batches read while one is being scored


@dataclass(frozen=True)
class ImageResult:
    """One image's figures; ``score`` is the image score, ``mean`` and ``max`` are of the map at native
    size."""

    item: Item
    score: float
    verdict: Verdict | None
    """Of the run's threshold; None if it has none."""
    mean: float
    max: float
    height: int
    width: int

    def row(self) -> dict[str, Any]:
        """For JSON and CSV, the keys being :data:`COLUMNS`; ``kind`` is None outside of data sets."""
        item = self.item
        return {
            "file": item.name,
            "kind": None if item.sample is None else item.sample.kind,
            "score": self.score,
            "verdict": self.verdict,
            "mean": self.mean,
            "max": self.max,
            "height": self.height,
            "width": self.width,
            "map": item.map,
            "overlay": item.overlay,
        }


@dataclass(frozen=True)
class Results:
    """What a :func:`predict` call found, in the order of the images; maps and pictures are on disk, below
    ``out``."""

    out: Path
    images: tuple[ImageResult, ...]
    scale: ColourScale
    failed: dict[str, str]
    """File -> why it could not be read."""
    threshold: Threshold | None = None
    """By which the verdicts are."""

    def as_dict(self) -> dict[str, Any]:
        """What ``scores.json`` holds."""
        return {
            "images": [image.row() for image in self.images],
            "failed": [{"file": name, "error": error} for name, error in self.failed.items()],
            "scale": self.scale.as_dict(),
            "threshold": None if self.threshold is None else self.threshold.as_dict(),
        }


def predict(
    run: str | os.PathLike[str] | Detector,
    source: str | os.PathLike[str] | Dataset,
    out: str | os.PathLike[str],
    *,
    device: str = "auto",
    batch_size: int = 8,
    progress: bool = False,
) -> Results:
    """Score an image, a folder of images with its sub-folders, or a data set's test images.

    Writes below ``out`` (see :func:`thfr.predictions.sources.collect` for the names):

    - for each image its anomaly map, TIFF float32 at the image's native size, and a PNG of the image with
      the map over it (and the ground truth's outline where it is known); all pictures of a call share one
      colour scale, that of good images (:func:`thfr.inference.good_scale`) if the run can tell it, else
      that of the call's maps, with the run's threshold, if it has one, as the limit of the outlines;
    - ``scores.csv`` and ``scores.json`` with a row an image, :data:`COLUMNS`; ``verdict`` is ``good`` or
      ``bad`` if the run has a threshold; the JSON also has ``failed``, ``scale`` and ``threshold``;
    - for an image or a folder ``report.html``, to look at.

    Every file is whole or not there; tables and report come last. Older results in ``out`` are replaced,
    those of images that are gone stay. Images are read, scored and written in batches: memory does not grow
    with their number.

    An image that cannot be read does not stop the others: it is listed in ``failed``, and once everything
    else is written an InputError names all such files, so that neither the work nor the news of a bad file
    is lost.

    Args:
        run: folder of a finished training, or a detector.
        device: ``auto``, ``cpu`` or ``cuda``; for a run folder.
        batch_size: images scored at once.
        progress: show bars with the time left on stderr.

    Raises:
        InputError: ``run``, ``source`` or ``out`` cannot be used (before anything is written), or some
            images cannot be read (after all others are done).
    """
    if batch_size < 1:
        raise InputError(f"predict: batch_size must be at least 1, got {batch_size}")
    target = Path(out)
    if target.exists() and not target.is_dir():
        raise InputError(f"predict: out must be a folder, got the file {target}")
    items = collect(source, target)
    detector = Detector.load(Path(run), device) if isinstance(run, (str, os.PathLike)) else run
    builder = None if detector.good_maps() is not None else ScaleBuilder()
    images: list[ImageResult] = []
    failed: dict[str, str] = {}
    with tqdm(total=len(items), desc="predict", unit="image", disable=not progress) as bar:
        for batch, pictures in _read_batches(items, batch_size):
            images += _score(detector, batch, pictures, target, builder, failed)
            bar.update(len(batch))
    if not images:
        raise InputError(_unreadable(failed))
    scale = good_scale(detector) if builder is None else builder.from_mixed("the images of this call")
    if (limit := detector.threshold) is not None:
        scale = scale.with_limit(limit.value, f"a quantile of {limit.in_short()}")
    _draw_all([image.item for image in images], source, target, scale, progress)
    results = Results(target, tuple(images), scale, failed, detector.threshold)
    _write_tables(results)
    if not isinstance(source, Dataset):
        write_report(target / "report.html", _report(results, Path(source).name))
    if failed:
        raise InputError(f"{_unreadable(failed)}\n  the results of the other {len(images)} are in {target}")
    return results


def _read_batches(
    items: Sequence[Item], batch_size: int
) -> Iterator[tuple[Sequence[Item], list[np.ndarray | InputError]]]:
    """The images in batches, decoded by threads ahead of their use, but never more than a few batches
    ahead."""
    batches = [items[start : start + batch_size] for start in range(0, len(items), batch_size)]
    with ThreadPoolExecutor(max_workers=min(8, usable_cpus())) as pool:
        pending: deque[list[Future[np.ndarray | InputError]]] = deque()
        for index, batch in enumerate(batches):
            for ahead in batches[index + len(pending) : index + 1 + _AHEAD]:
                pending.append([pool.submit(_read, item.path) for item in ahead])
            yield batch, [future.result() for future in pending.popleft()]


def _read(path: Path) -> np.ndarray | InputError:
    try:
        return read_image(path)
    except InputError as error:
        return error


def _score(
    detector: Detector,
    batch: Sequence[Item],
    pictures: Sequence[np.ndarray | InputError],
    out: Path,
    builder: ScaleBuilder | None,
    failed: dict[str, str],
) -> list[ImageResult]:
    """Score one batch and write its maps; unreadable images go to ``failed``."""
    readable: list[tuple[Item, np.ndarray]] = []
    for item, picture in zip(batch, pictures, strict=True):
        if isinstance(picture, InputError):
            failed[item.name] = str(picture)
        else:
            readable.append((item, picture))
    if not readable:
        return []
    scored = detector.score([picture for _, picture in readable], batch_size=len(readable))
    results = []
    for (item, picture), anomaly_map, score in zip(readable, scored.maps, scored.scores, strict=True):
        write_map(out / item.map, anomaly_map)
        if builder is not None:
            builder.add(anomaly_map)
        mean, peak = float(anomaly_map.mean(dtype=np.float64)), float(anomaly_map.max())
        verdict = None if detector.threshold is None else detector.threshold.verdict(float(score))
        size = picture.shape[:2]
        results.append(ImageResult(item, float(score), verdict, mean, peak, *size))
    return results


def _draw_all(
    items: Sequence[Item],
    source: str | os.PathLike[str] | Dataset,
    out: Path,
    scale: ColourScale,
    progress: bool,
) -> None:
    """Write each image's overlay. The scale is known only now, so images and maps are read once more."""

    def draw(item: Item) -> None:
        truth = None
        if isinstance(source, Dataset) and item.sample is not None and item.sample.is_anomalous:
            truth = source.mask(item.sample)
        picture = overlay(read_image(item.path), read_map(out / item.map), scale, truth)
        with atomic_path(out / item.overlay) as temporary:
            Image.fromarray(picture).save(temporary, compress_level=4)

    parallel_map(draw, items, progress=progress, description="draw")


def _write_tables(results: Results) -> None:
    with (
        atomic_path(results.out / "scores.csv") as temporary,
        temporary.open("w", newline="", encoding="utf-8") as file,
    ):
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        writer.writerows(image.row() for image in results.images)
    atomic_write_json(results.out / "scores.json", results.as_dict())


def _report(results: Results, name: str) -> Report:
    entries = [
        Entry(image.item.name, UNKNOWN, image.score, image.item.path, results.out / image.item.map)
        for image in results.images
    ]
    return Report(f"Inspection of {name}", entries, results.scale, per_kind=_REPORTED)


def _unreadable(failed: dict[str, str]) -> str:
    listed = "\n".join(f"  {error}" for error in failed.values())
    return f"predict: {len(failed)} image(s) cannot be read:\n{listed}"
