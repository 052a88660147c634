"""Evaluate a trained run on the test images of the data it was trained on."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from thfr import distributed
from thfr.data import Dataset, Sample, fingerprint, gathered, load_dataset
from thfr.errors import InputError
from thfr.evaluation.figures import remove_figures
from thfr.evaluation.protocols import evaluate_maps
from thfr.inference.scoring import help_to_score, score_items, source_of, unreadable
from thfr.io import atomic_write_json, printable
from thfr.methods import Detector
from thfr.predictions.arrays import ArrayScorer
from thfr.predictions.sources import collect
from thfr.predictions.tables import ResultsWriter
from thfr.runs import files
from thfr.runs.folder import read_data

_OWN = ("folder", "table")  # their category is a name of one's own, which may change


def data_of_run(
    run: Path, trained_on: Mapping[str, str | int], data: str | os.PathLike[str] | None = None
) -> Dataset:
    """The data set that a run was trained on, ``config.dataset``: at ``data``, or where it was at training.

    Raises:
        InputError: it cannot be found, has no test images, or the run was trained on a list of images.
    """
    name, category = trained_on.get("name"), trained_on.get("category")
    if name is None:
        raise InputError(
            f"evaluate: {run} was trained on a list of images, which has no test images; "
            "expected a run on a data set"
        )
    try:
        root = data if data is not None else read_data(run).root
    except InputError as error:
        raise InputError(
            f"evaluate: {run} does not say where its data are ({error}); give --data ROOT"
        ) from error
    if not Path(root).exists():
        raise InputError(f"evaluate: the data of {run} are not at {root} any more; say where: --data ROOT")
    moved = data is not None and name in _OWN and not (Path(root) / str(category)).exists()
    dataset = load_dataset(str(name), root, None if moved else str(category))
    if not dataset.test:
        raise InputError(
            f"evaluate: {run} was trained on {name} {printable(dataset.folder)}, which has no test images"
        )
    return dataset


def evaluate_run(
    run: str | os.PathLike[str],
    data: str | os.PathLike[str] | None = None,
    *,
    out: str | os.PathLike[str] | None = None,
    maps_out: str | os.PathLike[str] | None = None,
    device: str = "auto",
    batch_size: int = 8,
    memory: int | None = None,
    progress: bool = False,
) -> dict[str, Any]:
    """Score a run's test images and write the figures.

    Maps are scored at native size. The image score is the detector's own, the one that ``thfr predict``
    gives: the maximum of the map at input size, before it is resized.

    Args:
        run: folder of :func:`thfr.training.train`.
        data: the data set's folder, if it moved since training.
        out: file to write; None: ``metrics.json`` in ``run``.
        maps_out: folder for scores and maps, as :func:`thfr.inference.predict` writes them; None: not kept.
        device: ``auto``, ``cpu`` or ``cuda``.
        batch_size: images predicted at once.
        memory: bytes for what is kept of the pixels, see :func:`evaluate_maps`.
        progress: show a progress bar on stderr.

    Under ``torchrun`` all processes score images, each of them once; the main one has the figures, the
    others an empty dict. The main one gets all maps, to rank and to write them; with ``memory`` and without
    ``maps_out`` it gets what each keeps of its own instead.

    Returns:
        The figures of :func:`thfr.evaluation.evaluate_maps`, ``model``: method, backbone, size and seed of
        the run, and ``data``: what it was measured on (:func:`thfr.data.fingerprint`).

    Raises:
        InputError: no finished run there, data that are not what it was trained on, or an ``out`` that cannot
            be written.
    """
    folder = Path(run)
    target = folder / files.METRICS if out is None else Path(out)
    detector = Detector.load(folder, device)
    dataset = data_of_run(folder, detector.config.dataset, data)
    shared = memory is not None and maps_out is None
    if not distributed.is_main() and not shared:
        help_to_score(detector, collect(dataset, Path()).items, batch_size)
        return {}
    told = detector.config.summary()
    return write_figures(
        target,
        detector,
        dataset,
        told,
        maps_out=maps_out,
        batch_size=batch_size,
        memory=memory,
        shared=shared,
        progress=progress,
    )


def write_figures(
    target: Path,
    detector: ArrayScorer,
    dataset: Dataset,
    model: dict[str, Any],
    *,
    progress: bool = False,
    **options: Any,
) -> dict[str, Any]:
    """Write the figures of :func:`evaluate_detector`, which takes the ``options``, with what ``model`` tells
    of the detector and what it was measured on. An empty dict where another process has them.
    """
    if distributed.is_main():
        remove_figures(target)
    metrics = evaluate_detector(detector, dataset, progress=progress, **options)
    if not metrics:
        return {}
    metrics |= {"model": model, "data": fingerprint(dataset, progress=progress)}
    atomic_write_json(target, metrics)
    return metrics


def evaluate_detector(
    detector: ArrayScorer,
    dataset: Dataset,
    *,
    maps_out: str | os.PathLike[str] | None = None,
    batch_size: int = 8,
    memory: int | None = None,
    shared: bool = False,
    progress: bool = False,
) -> dict[str, Any]:
    """Score a data set's test images with a detector or an exported model: the figures of
    :func:`evaluate_maps`, ``image_f1`` at its threshold, and ``notes`` on the images.

    ``maps_out``: folder for scores and maps; None: not kept. Each image is read once. ``memory``, ``shared``:
    as of :func:`evaluate_maps`; a process keeps the maps of its images to itself.

    Raises:
        InputError: as :func:`evaluate_maps`, or an image that cannot be read.
    """
    scores: dict[Sample, float] = {}
    digests: dict[str, str] = {}
    folder = Path("." if maps_out is None else maps_out)
    collected = collect(dataset, folder)
    odd: list[tuple[str, str]] = []
    items = collected.items[distributed.rank() :: distributed.world()] if shared else collected.items
    writer = (
        None
        if maps_out is None
        else ResultsWriter(folder, detector.threshold, detector.scale, collected.notes)
    )

    def predicted() -> Iterator[np.ndarray]:
        """The maps in the images' order; an image's score is in ``scores`` before its map comes."""
        failed: dict[str, str] = {}
        for scored in score_items(detector, items, batch_size, failed, alone=shared):
            if failed:  # a figure of some of the images is not that of the data set
                raise InputError(unreadable("evaluate", failed))
            assert scored.item.sample is not None
            scores[scored.item.sample] = scored.score
            odd.extend((scored.item.name, note) for note in scored.notes)
            if writer is not None:
                writer.add(scored.item, scored.anomaly_map, scored.score, scored.notes)
                digests[scored.item.name] = str(scored.sha256)
            yield scored.anomaly_map
        if failed:
            raise InputError(unreadable("evaluate", failed))

    maps = predicted()
    limit = None if detector.threshold is None else detector.threshold.value
    metrics = evaluate_maps(
        dataset,
        lambda sample: next(maps),
        scores,
        threshold=limit,
        region=detector.inputs.options.region,
        progress=progress,
        memory=memory,
        shared=shared,
    )
    if shared:
        odd = [one for part in distributed.collect_objects(odd) for one in part]
        places = {item.name: place for place, item in enumerate(collected.items)}
        odd.sort(key=lambda one: places[one[0]])
    if not metrics:
        return {}
    metrics["notes"] = [*gathered(odd), *collected.notes]
    if writer is not None:
        writer.finish(source_of(detector, digests))
    return metrics
