"""A run's test images with their scores and maps, ready to be drawn."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path

import numpy as np
from torch import Tensor
from tqdm import tqdm

from thfr.data import Dataset, MVTecLOCO, Sample, load_images, load_inputs
from thfr.data.parallel import parallel_map
from thfr.errors import InputError
from thfr.evaluation.run import data_of_run
from thfr.inference import predict
from thfr.inference.predict import Draw
from thfr.inference.scoring import stored_scores, unreadable
from thfr.io import file_sha256
from thfr.io.framing import box_of
from thfr.methods import Detector
from thfr.methods.common.restoring import RestoringDetector
from thfr.predictions.scale import ColourScale
from thfr.predictions.sources import name_of
from thfr.predictions.tables import read_scores
from thfr.runs import files
from thfr.runs.folder import read_data
from thfr.training.trainer import divide, pixels_sha256
from thfr.visualization.gallery import Entry
from thfr.visualization.reconstruction import Visualizer
from thfr.visualization.training import has_visualizer, load_visualizer

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
                truth=partial(self.dataset.mask, sample) if sample.mask_paths else None,
                template=template,
                restored=self._restoring(sample),
                defects=defects_of(self.dataset, sample),
                options=self.detector.inputs.options_of(sample.oriented),
            )
            for sample, template in zip(chosen, self._templates(chosen, progress), strict=True)
        ]

    def prepared(self, sources: Sequence[Sample | Path]) -> Tensor:  # uint8 [N,3,H,W]
        """Images as the detector takes them, read as at training."""
        size = self.detector.size
        return load_images(sources, size, self.detector.inputs.options)

    def drawn(
        self, visualizer: Visualizer, sample: Sample | Path, detector: Detector, *, restored: bool = False
    ) -> np.ndarray:  # uint8 [h,w,3]
        """What ``detector`` extracts, or restores, of one image, drawn; without a letterbox's bars."""
        options, size = self.detector.inputs.options, self.detector.size
        loaded = load_inputs([sample], size, options)
        picture = visualizer.pictures(detector, loaded.images, restored=restored)[0]
        return picture[box_of(loaded.sizes[0], size, options.fit).slices]

    def _templates(self, samples: Sequence[Sample], progress: bool) -> list[Path | None]:
        """The nearest template of each; None without templates, or where its file is not the one that the run
        was trained on.
        """
        if self.detector.template_count == 0:
            return [None] * len(samples)
        found: list[Path | None] = []
        for start in tqdm(range(0, len(samples), _BATCH), "templates", disable=not progress, leave=False):
            nearest = self.detector.nearest_templates(self.prepared(samples[start : start + _BATCH]))
            assert nearest is not None  # there are templates
            found += [self.training_images.get(index) for index in nearest.tolist()]
        return found

    @cached_property
    def training_images(self) -> Mapping[int, Path | None]:
        """Index of a training image -> its file; None where that is missing or has changed since training."""
        return training_images(self.run, self.detector, self.dataset)

    def _restoring(self, sample: Sample) -> Callable[[], np.ndarray] | None:
        """Draws the restored features of a test image, when it is called."""
        detector, visualizer = self.detector, self.visualizer
        if visualizer is None or not isinstance(detector, RestoringDetector):
            return None

        return partial(self.drawn, visualizer, sample, detector, restored=True)


def open_results(
    command: str,
    run: str | os.PathLike[str],
    data: str | os.PathLike[str] | None = None,
    *,
    maps: Path | None = None,
    device: str = "auto",
    progress: bool = False,
) -> RunResults:
    """A run's results: :func:`open_run`, then :func:`results_of`.

    Raises:
        InputError: no finished run there, one without test images, or data that cannot be read.
    """
    folder = Path(run)
    detector, dataset = open_run(command, folder, data, device)
    return results_of(folder, detector, dataset, maps, progress=progress)


def results_of(
    run: Path,
    detector: Detector,
    dataset: Dataset,
    maps: Path | None = None,
    *,
    draw: Draw | None = None,
    progress: bool = False,
) -> RunResults:
    """The scores and maps of a run's test images: those in ``maps`` (None: ``run/results``), or new ones if
    these are of another state of the run or its data.

    Raises:
        InputError: see :func:`thfr.inference.predict`, a test image cannot be read, or no ``maps`` and a run
            that cannot be written into.
    """
    out = run / files.RESULTS if maps is None else maps
    stored = stored_scores(out, detector, dataset)
    if stored is None:
        if maps is None and not os.access(run, os.W_OK):
            raise InputError(f"predict: cannot write into {run}; say where: --maps DIR")
        results = predict(detector, dataset, out, draw=draw, progress=progress)
        stored = read_scores(out)
        if results.failed or stored is None:
            raise InputError(unreadable("predict", results.failed))
    return RunResults(
        run=run,
        detector=detector,
        dataset=dataset,
        scores={sample: stored.scores[name_of(sample)] for sample in dataset.test},
        maps={sample: stored.maps[name_of(sample)] for sample in dataset.test},
        scale=stored.scale,
        visualizer=load_visualizer(run, detector) if has_visualizer(run) else None,
    )


def training_images(run: Path, detector: Detector, dataset: Dataset) -> Mapping[int, Path | None]:
    """Index of a training image, as the detector counts, -> its file; None where that is missing or is not
    the one that the run was trained on.
    """
    expected = read_data(run).train if (run / files.DATA).is_file() else None
    paths = [sample.path for sample in dataset.train]
    if expected is not None:
        found = dict(zip(parallel_map(file_sha256, paths), paths, strict=True))
        return {index: found.get(digest) for index, digest in enumerate(expected)}
    # an older run knows its training images together only
    try:
        learnt, indices, _ = divide(dataset, detector.config.training)
        size = detector.size
        pixels = pixels_sha256(load_images(learnt, size, detector.inputs.options))
    except InputError:  # too few are left, or one cannot be read
        pixels = ""
    if pixels != detector.config.dataset.get("pixels_sha256"):
        return defaultdict(lambda: None)
    return {index: paths[index] for index in indices.tolist()}


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
        detector.require_one_category("evaluate")
        return detector, data_of_run(run, detector.config.dataset, data)
    except InputError as error:
        raise InputError(f"{command}: {str(error).removeprefix('evaluate: ')}") from error


def defects_of(dataset: Dataset, sample: Sample) -> tuple[str, ...]:
    """The names of a test image's defects, each once: those of the masks' pixel values (MVTec LOCO AD), or
    the kind, as without masks; none of a good image.
    """
    if not sample.is_anomalous:
        return ()
    if isinstance(dataset, MVTecLOCO):
        return tuple(dict.fromkeys(dataset.defect_names(sample))) or (sample.kind,)
    return (sample.kind,)
