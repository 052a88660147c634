"""Evaluate a trained run on the test images of the data it was trained on."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from thfr.data import Dataset, Sample, fingerprint, load_dataset
from thfr.errors import InputError
from thfr.evaluation.protocols import evaluate_maps
from thfr.io import atomic_write_json, read_image
from thfr.methods import Detector
from thfr.runs import files


def remember_data(run: Path, dataset: Dataset) -> None:
    """Note in the run folder where its data lie, so that they need not be named again."""
    atomic_write_json(
        run / files.DATA, {"dataset": dataset.name, "root": str(dataset.root), "category": dataset.category}
    )


def data_of_run(run: Path, detector: Detector, data: str | os.PathLike[str] | None = None) -> Dataset:
    """The data set that a run was trained on: at ``data``, or where it was at training.

    Raises:
        InputError: it cannot be found, or the run was not trained on MVTec AD or MVTec LOCO AD.
    """
    facts = detector.config.dataset
    name, category = facts.get("name"), facts.get("category")
    if name not in ("mvtec_ad", "mvtec_loco"):
        raise InputError(
            f"evaluate: {run} was trained on {name or 'a list of images'}, which has no test masks; "
            "expected a run on mvtec_ad or mvtec_loco"
        )
    root = data if data is not None else _remembered_root(run)
    if not Path(root).is_dir():
        raise InputError(f"evaluate: the data of {run} are not at {root} any more; say where: --data ROOT")
    return load_dataset(str(name), root, str(category))


def _remembered_root(run: Path) -> str:
    try:
        return str(json.loads((run / files.DATA).read_text(encoding="utf-8"))["root"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(
            f"evaluate: {run} does not say where its data are ({error}); give --data ROOT"
        ) from error


def evaluate_run(
    run: str | os.PathLike[str],
    data: str | os.PathLike[str] | None = None,
    *,
    device: str = "auto",
    batch_size: int = 8,
    progress: bool = False,
) -> dict[str, Any]:
    """Score a run's test images and write ``metrics.json`` into its folder.

    Maps are scored at native size. The image score is the detector's own, the one that ``thfr predict``
    gives: the maximum of the map at input size, before it is resized.

    Args:
        run: folder of :func:`thfr.training.train`.
        data: the data set's folder, if it moved since training.
        device: ``auto``, ``cpu`` or ``cuda``.
        batch_size: images predicted at once.
        progress: show a progress bar on stderr.

    Returns:
        The figures of :func:`thfr.evaluation.evaluate_maps`, ``model``: method, backbone, size and seed of
        the run, and ``data``: what it was measured on (:func:`thfr.data.fingerprint`).

    Raises:
        InputError: no finished run there, or data that are not what it was trained on.
    """
    folder = Path(run)
    detector = Detector.load(folder, device)
    dataset = data_of_run(folder, detector, data)
    metrics = evaluate_detector(detector, dataset, batch_size=batch_size, progress=progress)
    metrics["model"] = detector.config.summary()
    metrics["data"] = fingerprint(dataset, progress=progress)
    atomic_write_json(folder / files.METRICS, metrics)
    return metrics


def evaluate_detector(
    detector: Detector,
    dataset: Dataset,
    *,
    batch_size: int = 8,
    progress: bool = False,
) -> dict[str, Any]:
    """Score a data set's test images with a detector: the figures of :func:`evaluate_maps`.

    Raises:
        InputError: as :func:`evaluate_maps`.
    """
    scores: dict[Sample, float] = {}

    def predicted() -> Iterator[np.ndarray]:
        """The maps in the images' order; an image's score is in ``scores`` before its map comes."""
        for start in range(0, len(dataset.test), batch_size):
            batch = dataset.test[start : start + batch_size]
            images = [read_image(sample.path) for sample in batch]
            found = detector.score(images, batch_size)
            for sample, anomaly_map, score in zip(batch, found.maps, found.scores, strict=True):
                scores[sample] = float(score)
                yield anomaly_map

    maps = predicted()
    return evaluate_maps(dataset, lambda sample: next(maps), scores, progress=progress)
