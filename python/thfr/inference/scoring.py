"""Images through a detector, a few at a time: each is read once, by threads ahead of its use."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping, MutableMapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from thfr.data import Dataset
from thfr.data.parallel import parallel_map, usable_cpus
from thfr.errors import InputError
from thfr.io import file_sha256, read_image
from thfr.methods import Detector
from thfr.predictions.sources import Item, name_of
from thfr.predictions.tables import StoredScores, read_scores

_AHEAD = 2  # batches read while one is being scored


@dataclass(frozen=True)
class Scored:
    """An image with its anomaly map and score."""

    item: Item
    image: np.ndarray  # uint8 [H,W,3]
    anomaly_map: np.ndarray  # float32 [H,W]
    score: float
    sha256: str | None
    """Of the file, for a data set's image: it says later whether the score is still that of the image."""


def score_items(
    detector: Detector, items: Sequence[Item], batch_size: int, failed: MutableMapping[str, str]
) -> Iterator[Scored]:
    """Score the images in their order; those that cannot be read go to ``failed``: name -> reason.

    Memory holds a few batches, however many images there are.
    """
    for batch in _read_ahead(items, batch_size):
        readable = []
        for item, read in batch:
            if isinstance(read, InputError):
                failed[item.name] = str(read)
            else:
                readable.append((item, *read))
        if readable:
            found = detector.score([image for _, image, _ in readable], batch_size=len(readable))
            for (item, image, sha256), anomaly_map, score in zip(
                readable, found.maps, found.scores.tolist(), strict=True
            ):
                yield Scored(item, image, anomaly_map, score, sha256)


_Read = tuple[np.ndarray, str | None] | InputError


def _read_ahead(items: Sequence[Item], batch_size: int) -> Iterator[list[tuple[Item, _Read]]]:
    """The images in batches, decoded by threads, never more than a few batches ahead."""
    batches = [items[start : start + batch_size] for start in range(0, len(items), batch_size)]
    pool = ThreadPoolExecutor(max_workers=min(8, usable_cpus()))
    try:
        pending: deque[list[Future[_Read]]] = deque()
        for index, batch in enumerate(batches):
            for ahead in batches[index + len(pending) : index + 1 + _AHEAD]:
                pending.append([pool.submit(_read, item) for item in ahead])
            yield list(zip(batch, (future.result() for future in pending.popleft()), strict=True))
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _read(item: Item) -> _Read:
    try:
        image = read_image(item.path)
        return image, None if item.sample is None else file_sha256(item.path)
    except InputError as error:
        return error


def unreadable(command: str, failed: Mapping[str, str]) -> str:
    """What is wrong with the images that failed, one on a line."""
    listed = "\n".join(f"  {error}" for error in failed.values())
    return f"{command}: {len(failed)} image(s) cannot be read:\n{listed}"


def source_of(detector: Detector, images: Mapping[str, str]) -> dict[str, Any] | None:
    """What scores of a data set's images depend on: the run and the images (name -> SHA-256); None for a
    detector that no run folder holds.
    """
    if detector.digest is None:
        return None
    threshold = detector.threshold
    return {
        "run": detector.digest,
        "precision": detector.precision,
        "threshold": None if threshold is None else [threshold.value, threshold.wanted_rate],
        "scale": None if detector.scale is None else detector.scale.as_dict(),
        "images": dict(images),
    }


def stored_scores(out: Path, detector: Detector, dataset: Dataset) -> StoredScores | None:
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
