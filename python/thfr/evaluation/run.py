"""Evaluate a trained run on the test images of the data it was trained on."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from thfr import distributed
from thfr.data import Dataset, JoinedDataset, Sample, fingerprint, gathered, load_dataset
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
    run: Path, trained_on: Mapping[str, Any], data: str | os.PathLike[str] | None = None
) -> Dataset:
    """The data set that a run was trained on, ``config.dataset``: at ``data``, or where it was at training.

    Raises:
        InputError: it cannot be found, has no test images, or the run was trained on a list of images.
    """
    name, category = trained_on.get("name"), trained_on.get("category")
    several = trained_on.get("categories")
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
    dataset = load_dataset(str(name), root, several or (None if moved else str(category)))
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
    ``maps_out`` it gets what each keeps of its own instead (not of several categories).

    Returns:
        The figures of :func:`thfr.evaluation.evaluate_maps`, ``model``: method, backbone, size and seed of
        the run, and ``data``: what it was measured on (:func:`thfr.data.fingerprint`). Of a run on several
        categories those of :func:`evaluate_categories`, ``data`` by category.

    Raises:
        InputError: no finished run there, data that are not what it was trained on, or an ``out`` that cannot
            be written.
    """
    folder = Path(run)
    target = folder / files.METRICS if out is None else Path(out)
    detector = Detector.load(folder, device)
    dataset = data_of_run(folder, detector.config.dataset, data)
    parts = dataset.parts if isinstance(dataset, JoinedDataset) else (dataset,)
    shared = memory is not None and maps_out is None and len(parts) == 1
    if not distributed.is_main() and not shared:
        for part in parts:
            help_to_score(detector, collect(part, Path()).items, batch_size)
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
    if isinstance(dataset, JoinedDataset):
        metrics = evaluate_categories(detector, dataset, progress=progress, **options)
    else:
        metrics = evaluate_detector(detector, dataset, progress=progress, **options)
    if not metrics:
        return {}
    parts = dataset.parts if isinstance(dataset, JoinedDataset) else ()
    several = {part.category: fingerprint(part, progress=progress) for part in parts}
    metrics |= {"model": model, "data": several or fingerprint(dataset, progress=progress)}
    atomic_write_json(target, metrics)
    return metrics


_MEANS = ("image_auroc", "image_aupr", "image_f1", "pixel_auroc", "au_pro", "category_accuracy")


def evaluate_categories(
    detector: ArrayScorer,
    dataset: JoinedDataset,
    *,
    maps_out: str | os.PathLike[str] | None = None,
    shared: bool = False,
    **options: Any,
) -> dict[str, Any]:
    """:func:`evaluate_detector` of a run on several categories, for each by its own protocol.

    Args:
        maps_out: folder for scores and maps, in it one for each category.

    Returns:
        ``categories``: name -> figures, with ``category_accuracy``, the share of its test images that were
        found to be of it; each of them is judged by the threshold of the category found; ``mean``: of the
        categories' figures, None where one is not defined; ``category_accuracy``: of all test images.

    Raises:
        InputError: as :func:`evaluate_detector`; a run on one category, a category without test images, or
            several processes that share the pixels.
    """
    if detector.categories is None:
        raise InputError("evaluate: expected a run on several categories, this one is on one")
    if shared:
        raise InputError("evaluate: shared: not offered for a run on several categories, got True")
    found = {}
    for part in dataset.parts:
        kept = None if maps_out is None else Path(maps_out) / part.category
        found[part.category] = evaluate_detector(detector, part, maps_out=kept, **options)
    images = [sum(one["images"].values()) for one in found.values()]
    right = [one["category_accuracy"] * count for one, count in zip(found.values(), images, strict=True)]
    values = {name: [one[name] for one in found.values()] for name in _MEANS}
    return {
        "dataset": dataset.name,
        "category": dataset.category,
        "categories": found,
        "mean": {name: None if None in of else sum(of) / len(of) for name, of in values.items()},
        "category_accuracy": sum(right) / sum(images),
        "notes": [f"{name}: {note}" for name, one in found.items() for note in one["notes"]],
    }


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
    limits: dict[Sample, float] = {}
    as_found: list[bool] = []  # of a run on several categories: whether the image's was found
    digests: dict[str, str] = {}
    folder = Path("." if maps_out is None else maps_out)
    collected = collect(dataset, folder)
    odd: list[tuple[str, str]] = []
    items = collected.items[distributed.rank() :: distributed.world()] if shared else collected.items
    writer = (
        None
        if maps_out is None
        else ResultsWriter(folder, detector.threshold, detector.scale, collected.notes, detector.categories)
    )

    def predicted() -> Iterator[np.ndarray]:
        """The maps in the images' order; an image's score is in ``scores`` before its map comes."""
        failed: dict[str, str] = {}
        for scored in score_items(detector, items, batch_size, failed, alone=shared):
            if failed:  # a figure of some of the images is not that of the data set
                raise InputError(unreadable("evaluate", failed))
            assert scored.item.sample is not None
            scores[scored.item.sample] = scored.score
            if scored.threshold is not None:
                limits[scored.item.sample] = scored.threshold.value
            as_found.append(scored.category == dataset.category)
            odd.extend((scored.item.name, note) for note in scored.notes)
            if writer is not None:
                writer.add(
                    scored.item, scored.anomaly_map, scored.score, scored.notes, category=scored.category
                )
                digests[scored.item.name] = str(scored.sha256)
            yield scored.anomaly_map
        if failed:
            raise InputError(unreadable("evaluate", failed))

    maps = predicted()
    several = detector.categories
    limit = None if detector.threshold is None else detector.threshold.value
    metrics = evaluate_maps(
        dataset,
        lambda sample: next(maps),
        scores,
        threshold=limits if several is not None and several.names == list(several.thresholds) else limit,
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
    if several is not None:
        metrics["category_accuracy"] = sum(as_found) / len(as_found)
    metrics["notes"] = [*gathered(odd), *collected.notes]
    if writer is not None:
        writer.finish(source_of(detector, digests))
    return metrics
