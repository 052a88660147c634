"""A run's test images with their scores and maps, ready to be drawn."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from thfr.data import Dataset, MVTecLOCO, Sample
from thfr.errors import InputError
from thfr.evaluation.run import data_of_run
from thfr.inference import predict
from thfr.io import atomic_write_json, read_image
from thfr.methods import Detector
from thfr.methods.common.restoring import RestoringDetector
from thfr.predictions.scale import ColourScale
from thfr.runs import files
from thfr.visualization.gallery import Entry
from thfr.visualization.reconstruction import Visualizer
from thfr.visualization.training import has_visualizer, load_visualizer

SOURCE_FILE = "source.json"
_BATCH = 8


@dataclass(frozen=True)
class RunResults:
    """A run with the scores and maps of its test images, which lie in ``run/results``."""

    run: Path
    detector: Detector
    dataset: Dataset
    scores: Mapping[Sample, float]
    maps: Mapping[Sample, Path]
    scale: ColourScale
    visualizer: Visualizer | None
    """The run's visualization network, if it has been trained."""

    def entries(self, samples: Sequence[Sample] | None = None, progress: bool = False) -> list[Entry]:
        """What is to be shown of some test images (default: of all)."""
        chosen = self.dataset.test if samples is None else samples
        return [
            Entry(
                name=name_of(sample),
                kind=sample.kind,
                score=self.scores[sample],
                image=sample.path,
                map=self.maps[sample],
                truth=partial(self.dataset.mask, sample) if sample.is_anomalous else None,
                template=template,
                restored=self._restoring(sample),
                defects=defects_of(self.dataset, sample),
            )
            for sample, template in zip(chosen, self._templates(chosen, progress), strict=True)
        ]

    def _templates(self, samples: Sequence[Sample], progress: bool) -> list[Path | None]:
        if self.detector.template_count == 0:
            return [None] * len(samples)
        found: list[Path | None] = []
        for start in tqdm(range(0, len(samples), _BATCH), "templates", disable=not progress, leave=False):
            batch = [read_image(sample.path) for sample in samples[start : start + _BATCH]]
            nearest = self.detector.nearest_templates(self.detector.prepare(batch))
            assert nearest is not None  # there are templates
            found += [self.dataset.train[n].path for n in nearest.tolist()]
        return found

    def _restoring(self, sample: Sample) -> Callable[[], np.ndarray] | None:
        """Draws the restored features of a test image, when it is called."""
        detector, visualizer = self.detector, self.visualizer
        if visualizer is None or not isinstance(detector, RestoringDetector):
            return None

        def draw() -> np.ndarray:
            features = detector.features(detector.prepare([read_image(sample.path)]))
            return visualizer.pictures(detector.restorations(features))[0]

        return draw


def open_results(
    command: str,
    run: str | os.PathLike[str],
    data: str | os.PathLike[str] | None = None,
    *,
    device: str = "auto",
    progress: bool = False,
) -> RunResults:
    """A run's results: :func:`open_run`, then :func:`results_of`.

    Raises:
        InputError: no finished run there, one without test images, or data that cannot be read.
    """
    folder = Path(run)
    detector, dataset = open_run(command, folder, data, device)
    return results_of(folder, detector, dataset, progress=progress)


def results_of(run: Path, detector: Detector, dataset: Dataset, *, progress: bool = False) -> RunResults:
    """The scores and maps of a run's test images: those in ``run/results``, or new ones if these are of
    another state of the run or its data.

    Raises:
        InputError: see :func:`thfr.inference.predict`.
    """
    out = run / files.RESULTS
    source = _source(run, dataset)
    if not _holds(out, source):
        (out / SOURCE_FILE).unlink(missing_ok=True)
        predict(detector, dataset, out, progress=progress)
        atomic_write_json(out / SOURCE_FILE, source)
    found = json.loads((out / "scores.json").read_text(encoding="utf-8"))
    rows = {row["file"]: row for row in found["images"]}
    return RunResults(
        run=run,
        detector=detector,
        dataset=dataset,
        scores={sample: rows[name_of(sample)]["score"] for sample in dataset.test},
        maps={sample: out / rows[name_of(sample)]["map"] for sample in dataset.test},
        scale=ColourScale(**found["scale"]),
        visualizer=load_visualizer(run, detector) if has_visualizer(run) else None,
    )


def open_run(
    command: str, run: Path, data: str | os.PathLike[str] | None, device: str
) -> tuple[Detector, Dataset]:
    """A run's detector and data set, with errors that begin with ``command``.

    Args:
        command: of the command line.
        run: folder of :func:`thfr.training.train`.
        data: the data set's folder, if it moved since training.
    """
    try:
        detector = Detector.load(run, device)
        return detector, data_of_run(run, detector, data)
    except InputError as error:
        raise InputError(f"{command}: {str(error).removeprefix('evaluate: ')}") from error


def name_of(sample: Sample) -> str:
    """A test image's name in tables and options: ``kind/file``."""
    return f"{sample.kind}/{sample.path.name}"


def defects_of(dataset: Dataset, sample: Sample) -> tuple[str, ...]:
    """The names of a test image's defects, each once: those of the masks' pixel values (MVTec LOCO AD), or
    the kind; none of a good image.
    """
    if not sample.is_anomalous:
        return ()
    if isinstance(dataset, MVTecLOCO):
        return tuple(dict.fromkeys(dataset.defect_names(sample)))
    return (sample.kind,)


def _source(run: Path, dataset: Dataset) -> dict[str, Any]:
    """What the results of a run depend on: the files that decide its scores, and the test images."""
    digests = {
        name: hashlib.sha256((run / name).read_bytes()).hexdigest()
        for name in (files.CONFIG, files.BACKBONE, files.THRESHOLD, files.MODEL)
        if (run / name).is_file()
    }
    images = {name_of(sample): sample.path.stat().st_size for sample in dataset.test}
    return {"run": digests, "images": images}


def _holds(out: Path, source: Mapping[str, Any]) -> bool:
    """Whether ``out`` holds the results of this source."""
    try:
        return bool(json.loads((out / SOURCE_FILE).read_text(encoding="utf-8")) == source)
    except (OSError, ValueError):
        return False
