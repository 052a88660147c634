"""Images through a detector, a few at a time: each is read once, by threads ahead of its use."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping, MutableMapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from thfr import distributed
from thfr.data import Dataset
from thfr.data.parallel import parallel_map, usable_cpus
from thfr.errors import InputError
from thfr.io import ImageInput, ReadOptions, file_sha256, read_both
from thfr.predictions.arrays import ArrayScorer
from thfr.predictions.findings import Finding
from thfr.predictions.judging import Rules, judge
from thfr.predictions.sources import Item, name_of
from thfr.predictions.tables import StoredScores, read_scores
from thfr.runs.threshold import Threshold

_AHEAD = 2  # batches read while one is being scored
KEPT = 1 << 23
"""Images of more pixels (8 millions) are not kept to be drawn, but read again, one at a time."""


@dataclass(frozen=True)
class Scored:
    """An image with its anomaly map and score."""

    item: Item
    image: np.ndarray | None  # uint8 [H,W,3]
    """None unless asked for, and for an image of more than :data:`KEPT` pixels."""
    anomaly_map: np.ndarray  # float32 [H,W]
    score: float
    sha256: str | None
    """Of the file, for a data set's image: it says later whether the score is still that of the image."""
    notes: tuple[str, ...]
    """On the image and how it differs from the training images."""
    category: str | None = None
    """That it was found to be of; None of a run on one category."""
    threshold: Threshold | None = None
    """By which it is judged."""


@dataclass(frozen=True)
class _Read:
    found: ImageInput
    image: np.ndarray | None
    sha256: str | None


def score_items(
    detector: ArrayScorer,
    items: Sequence[Item],
    batch_size: int,
    failed: MutableMapping[str, str],
    *,
    images: bool = False,
    alone: bool = False,
) -> Iterator[Scored]:
    """Score the images in their order; those that cannot be read go to ``failed``: name -> reason.

    Every image is read once, by the run's own options, and held at input size, and, with ``images``, as it is
    up to :data:`KEPT` pixels. Memory holds a few batches, however many images there are.

    The processes of ``torchrun`` take turns, a batch each; the main one gets all results, in order, the
    others none. All of them must iterate to the end. With ``alone`` each scores all that it is given.
    """
    batches = [items[start : start + batch_size] for start in range(0, len(items), batch_size)]
    world, rank = (1, 0) if alone else (distributed.world(), distributed.rank())
    own = _score_batches(detector, batches[rank::world], images)
    for _ in range(0, len(batches), world):
        part = next(own, ([], {}))
        for found, wrong in [part] if alone else distributed.collect_objects(part):
            failed.update(wrong)
            yield from found


def _score_batches(
    detector: ArrayScorer, batches: Sequence[Sequence[Item]], images: bool
) -> Iterator[tuple[list[Scored], dict[str, str]]]:
    """For each batch what was scored, and which images cannot be read."""
    for batch in _read_ahead(detector, batches, images):
        readable, failed, scored = [], {}, []
        for item, read in batch:
            if isinstance(read, InputError):
                failed[item.name] = str(read)
            else:
                readable.append((item, read))
        if readable:
            pixels = np.stack([read.found.pixels for _, read in readable])
            found = detector.score_read(pixels, [read.found.native for _, read in readable])
            for (item, read), one in zip(readable, found, strict=True):
                notes = tuple(detector.inputs.check(read.found))
                limit = detector.threshold_of(one.category)
                scored.append(
                    Scored(item, read.image, one.map, one.score, read.sha256, notes, one.category, limit)
                )
        yield scored, failed


def help_to_score(
    detector: ArrayScorer, items: Sequence[Item], batch_size: int, *, images: bool = False
) -> None:
    """What the processes of ``torchrun`` but the main one do while that one is in :func:`score_items`."""
    for _ in score_items(detector, items, batch_size, {}, images=images):
        raise RuntimeError("help_to_score: called by the main process")


def _read_ahead(
    detector: ArrayScorer, batches: Sequence[Sequence[Item]], images: bool
) -> Iterator[list[tuple[Item, _Read | InputError]]]:
    """The images of batches, decoded by threads, never more than a few batches ahead."""
    pool = ThreadPoolExecutor(max_workers=min(8, usable_cpus()))
    try:
        pending: deque[list[Future[_Read | InputError]]] = deque()
        for index, batch in enumerate(batches):
            for ahead in batches[index + len(pending) : index + 1 + _AHEAD]:
                pending.append([pool.submit(_read, detector, item, images) for item in ahead])
            yield list(zip(batch, (future.result() for future in pending.popleft()), strict=True))
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _read(detector: ArrayScorer, item: Item, images: bool) -> _Read | InputError:
    options, size = item_options(detector, item), detector.size
    try:
        found, image = read_both(item.path, size, options, KEPT if images else 0)
        return _Read(found, image, None if item.sample is None else file_sha256(item.path))
    except InputError as error:
        return error


def judged(scored: Scored, rules: Rules | None) -> tuple[np.ndarray, float, list[Finding] | None]:
    """Map, score and findings of what counts of an image; without rules all of it counts, and no findings are
    looked for.

    Raises:
        NothingToLookAt: nothing counts.
    """
    if rules is None:
        return scored.anomaly_map, scored.score, None
    threshold = scored.threshold
    found = judge(scored.anomaly_map, scored.score, None if threshold is None else threshold.value, rules)
    return found.shown, found.score, found.findings


def item_options(detector: ArrayScorer, item: Item) -> ReadOptions:
    """How the run reads that image."""
    return detector.inputs.options_of(None if item.sample is None else item.sample.oriented)


def unreadable(command: str, failed: Mapping[str, str]) -> str:
    """What is wrong with the images that failed, one on a line."""
    listed = "\n".join(f"  {error}" for error in failed.values())
    return f"{command}: {len(failed)} image(s) cannot be read:\n{listed}"


def source_of(detector: ArrayScorer, images: Mapping[str, str]) -> dict[str, Any] | None:
    """What scores of a data set's images depend on: the run and the images (name -> SHA-256); None for a
    detector that no run folder holds.
    """
    if detector.digest is None:
        return None
    threshold, categories = detector.threshold, detector.categories
    several = (
        {}
        if categories is None
        else {
            "thresholds": {name: [one.value, one.wanted_rate] for name, one in categories.thresholds.items()}
        }
    )
    return {
        "run": detector.digest,
        "precision": detector.precision,
        "threshold": None if threshold is None else [threshold.value, threshold.wanted_rate],
        "scale": None if detector.scale is None else detector.scale.as_dict(),
        "images": dict(images),
        **several,
    }


def stored_scores(out: Path, detector: ArrayScorer, dataset: Dataset) -> StoredScores | None:
    """The scores and maps of the data set's test images in ``out``; None unless they are all there and of
    this run and these very images.
    """
    stored = read_scores(out)
    if stored is None or not all(path.is_file() for path in stored.maps.values()):
        return None
    digests = parallel_map(file_sha256, [sample.path for sample in dataset.test])
    current = source_of(
        detector, {name_of(sample): digest for sample, digest in zip(dataset.test, digests, strict=True)}
    )
    return stored if current is not None and current == stored.source else None
