"""Score images and write maps, pictures and tables."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from tqdm import tqdm

from thfr.data import Dataset
from thfr.data.parallel import parallel_map, usable_cpus
from thfr.errors import InputError
from thfr.inference.scoring import KEPT, item_options, judged, score_items, source_of, unreadable
from thfr.io import atomic_path, image_size, read_map, read_resized
from thfr.io.files import free_bytes
from thfr.methods import Detector
from thfr.methods.common.counting import native_map
from thfr.predictions.judging import NothingToLookAt, Rules
from thfr.predictions.scale import ColourScale
from thfr.predictions.sources import Item, collect
from thfr.predictions.tables import ImageResult, Results, ResultsWriter
from thfr.training.scale import good_scale

BATCH = 8
"""Images scored at once."""
_SAMPLED = 16  # images whose size is looked at beforehand

Draw = Callable[[ImageResult, np.ndarray, np.ndarray, ColourScale, np.ndarray | None], np.ndarray]
"""Draws an image, uint8 [H,W,3], its map, float32 [H,W], on a colour scale and, where it is known, the ground
truth, bool [H,W]: uint8 [H,W,3]. Called by several threads.
"""


def predict(
    run: str | os.PathLike[str] | Detector,
    source: str | os.PathLike[str] | Dataset,
    out: str | os.PathLike[str],
    *,
    draw: Draw | None = None,
    rules: Rules | None = None,
    device: str = "auto",
    batch_size: int = BATCH,
    progress: bool = False,
) -> Results:
    """Score an image, a folder of images with its sub-folders, or a data set's test images.

    Writes below ``out`` (see :func:`thfr.predictions.sources.collect` for the names):

    - for each image its anomaly map, TIFF float32 at the image's native size, and, with ``draw``, a PNG of
      what it draws; all pictures of a call share one colour scale: that of the run, or, if the run knows
      nothing of good images, that of the call's maps; the run's threshold, if it has one, is the limit of
      the outlines;
    - ``scores.csv`` and ``scores.json`` with a row an image, :data:`thfr.predictions.tables.COLUMNS`;
      ``verdict`` is ``good`` or ``bad`` if the run has a threshold; the JSON also has ``failed``,
      ``scale``, ``threshold``, ``thresholds`` and ``notes``. Of a run on several categories ``category`` is
      the one that the image was found to be of, whose threshold judges it. Images are read as at training
      (depth, orientation); what looks unlike the training images is used, and noted;
    - with ``rules``: each image's findings in the JSON, and ``findings.csv`` with a row a finding,
      :data:`thfr.predictions.tables.FINDING_COLUMNS`.

    Pictures of images of more than 8 million pixels are drawn at a lower resolution.

    Older tables in ``out`` are removed before anything is scored, and the new ones, written last, are atomic.
    Maps and pictures of images that are gone stay. Every image is read once; memory does not grow with their
    number.

    An image that cannot be read, or whose ground truth cannot be drawn, does not stop the others: it is
    listed in ``failed``.

    Args:
        run: folder of a finished training, or a detector.
        draw: see :data:`Draw`; :func:`thfr.visualization.inspect` gives overlays and a report.
        rules: how findings are made, and where to look: maps, scores and pictures are those of what counts
            (:func:`thfr.predictions.judging.judge`); None: everywhere, and no findings.
        device: ``auto``, ``cpu`` or ``cuda``; for a run folder.
        batch_size: images scored at once.
        progress: show bars with the time left on stderr.

    Raises:
        InputError: ``run``, ``source`` or ``out`` cannot be used, or none of the images can be read.
    """
    if batch_size < 1:
        raise InputError(f"predict: batch_size must be at least 1, got {batch_size}")
    target = Path(out)
    if target.exists() and not target.is_dir():
        raise InputError(f"predict: out must be a folder, got the file {target}")
    collected = collect(source, target)
    items = collected.items
    detector = Detector.load(Path(run), device) if isinstance(run, (str, os.PathLike)) else run
    scale = detector.scale or good_scale(detector)  # of a run that did not store its own
    _check_room(target, items)
    writer = ResultsWriter(target, detector.threshold, scale, collected.notes, detector.categories)
    digests: dict[str, str] = {}
    dataset = source if isinstance(source, Dataset) else None
    with (
        _Pictures(writer, detector, draw, dataset, at_once=scale is not None) as pictures,
        tqdm(total=len(items), desc="predict", unit="image", disable=not progress) as bar,
    ):
        for scored in score_items(detector, items, batch_size, writer.failed, images=draw is not None):
            try:
                values, score, findings = judged(scored, rules)
            except NothingToLookAt as error:
                writer.failed[scored.item.name] = str(error)
                continue
            result = writer.add(scored.item, values, score, scored.notes, findings, scored.category)
            pictures.add(result, scored.image, values)
            if scored.sha256 is not None:
                digests[scored.item.name] = scored.sha256
            bar.update(len(writer.images) + len(writer.failed) - bar.n)
        if not writer.images:
            raise InputError(unreadable("predict", writer.failed))
        drawn = pictures.finish(progress)
    return writer.finish(source_of(detector, digests) if dataset is not None else None, drawn)


def _check_room(out: Path, items: Sequence[Item]) -> None:
    """Refuse a disk that has no room for the maps, by the sizes of a few images; pictures come on top.

    Raises:
        InputError: with the folder and the bytes.
    """
    new = [item for item in items if not (out / item.map).exists()]
    areas = []
    for item in new[:: max(1, len(new) // _SAMPLED)]:
        with suppress(InputError):  # it will be in "failed"
            height, width = image_size(item.path)
            areas.append(height * width)
    needed, free = 4 * len(new) * sum(areas) // max(1, len(areas)), free_bytes(out)
    if needed > free:
        raise InputError(
            f"predict: the maps of {len(new)} images need about {needed:,} bytes in {out}, "
            f"where {free:,} are free"
        )


class _Pictures:
    """Draws the images that it is given, on threads: at once, or, where the scale is known at the end
    only, from a copy of the image that lies where the picture will.
    """

    def __init__(
        self,
        writer: ResultsWriter,
        detector: Detector,
        draw: Draw | None,
        dataset: Dataset | None,
        at_once: bool,
    ) -> None:
        self._detector, self._undrawn = detector, set[str]()
        self._writer, self._draw, self._dataset, self._at_once = writer, draw, dataset, at_once
        self._threads = min(8, usable_cpus())
        self._pending: deque[Future[None]] = deque()

    def __enter__(self) -> _Pictures:
        self._pool = ThreadPoolExecutor(max_workers=self._threads)
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown(wait=True, cancel_futures=True)

    def add(self, result: ImageResult, image: np.ndarray | None, anomaly_map: np.ndarray) -> None:
        """Take an image and its map; waits while many are waiting."""
        if self._draw is None:
            return
        if image is None:  # too large to be kept
            try:
                image = self._reduced(result)
            except InputError as error:  # it was there a moment ago
                self._writer.failed[result.item.name] = str(error)
                self._undrawn.add(result.item.name)
                return
        while len(self._pending) > 2 * self._threads:
            self._pending.popleft().result()
        if self._at_once:
            self._pending.append(self._pool.submit(self._write, result, image, anomaly_map))
        else:
            self._pending.append(self._pool.submit(self._save, result, image))

    def _reduced(self, result: ImageResult) -> np.ndarray:
        """A large image again, at a lower resolution; on the caller's thread, so one at a time."""
        factor = (KEPT / (result.height * result.width)) ** 0.5
        size = max(1, round(result.height * factor)), max(1, round(result.width * factor))
        options = replace(item_options(self._detector, result.item), fit="stretch", region=None)
        return read_resized(result.item.path, size, options)

    def finish(self, progress: bool) -> frozenset[str]:
        """Wait for the pictures, or draw them now; the names of the images that have one."""
        for future in self._pending:
            future.result()
        if self._draw is None:
            return frozenset()
        if not self._at_once:
            there = [one for one in self._writer.images if one.item.name not in self._undrawn]
            parallel_map(self._draw_copy, there, progress=progress, description="draw")
        return frozenset({image.item.name for image in self._writer.images} - self._undrawn)

    def _write(self, result: ImageResult, image: np.ndarray, anomaly_map: np.ndarray) -> None:
        assert self._draw is not None
        truth, size = self._truth(result), image.shape[:2]
        if size != anomaly_map.shape:  # of a large image
            anomaly_map = native_map(torch.from_numpy(anomaly_map), size)
            if truth is not None:
                rows, columns = (np.arange(size[axis]) * truth.shape[axis] // size[axis] for axis in (0, 1))
                truth = truth[rows][:, columns]
        picture = self._draw(result, image, anomaly_map, self._writer.scale_of(result.category), truth)
        self._save(result, picture)

    def _save(self, result: ImageResult, picture: np.ndarray) -> None:
        with atomic_path(self._writer.out / result.item.overlay) as temporary:
            Image.fromarray(picture).save(temporary, compress_level=4)

    def _draw_copy(self, result: ImageResult) -> None:
        with Image.open(self._writer.out / result.item.overlay) as copy:
            image = np.array(copy)
        self._write(result, image, read_map(self._writer.out / result.item.map))

    def _truth(self, result: ImageResult) -> np.ndarray | None:
        sample = result.item.sample
        if self._dataset is None or sample is None or not sample.mask_paths:
            return None
        try:
            return self._dataset.mask(sample)
        except InputError as error:
            self._writer.failed[result.item.name] = str(error)
            return None
