"""Restored features as pictures, network beside network (supplement, section 3.3 and Figure 3)."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from torch import Tensor

from thfr.data import Dataset, Sample
from thfr.data.base import GOOD
from thfr.errors import InputError
from thfr.io import read_image
from thfr.methods import Detector
from thfr.methods.common.restoring import RestoringDetector
from thfr.predictions.sources import name_of
from thfr.runs import files
from thfr.visualization.gallery import pictures, stretched
from thfr.visualization.grid import PANEL_EDGE, Grid, Row, write_grid
from thfr.visualization.plots import kind_label
from thfr.visualization.qualitative import kinds_of_defect
from thfr.visualization.reconstruction import Visualizer
from thfr.visualization.results import RunResults, open_run, results_of
from thfr.visualization.training import features_of, train_visualizer
from thfr.visualization.typical import typical

_ORDER = ("GBN", "LBN", "G-L", "THFR")  # of the supplement


@dataclass(frozen=True)
class Strip:
    """One test image in all its pictures, uint8 [H,W,3], from left to right."""

    sample: Sample
    panels: Mapping[str, np.ndarray]


def visualize(
    run: Path,
    beside: Sequence[Path] = (),
    *,
    out: Path | None = None,
    images: Sequence[str] = (),
    asked: Mapping[str, Any] | None = None,
    data: str | os.PathLike[str] | None = None,
    maps: Path | None = None,
    device: str = "auto",
    progress: bool = False,
) -> dict[str, Any]:
    """Train the run's visualization network if it has none, and draw Figure 3 with it.

    Args:
        run: folder of :func:`thfr.training.train`, on MVTec AD or MVTec LOCO AD.
        beside: runs with the same features and data, whose restorations are shown too.
        out: folder for the pictures; None: ``run/strips``.
        images: names of test images, ``kind/file`` or ``kind/id``; none: of each kind of defect the one of
            median score.
        asked: see :func:`thfr.visualization.training.train_visualizer`.
        data: the data set's folder, if it moved since training.
        maps: folder of the test images' scores and maps; None: ``run/results``.

    Returns:
        ``network``: what ``visualization.json`` holds (see :mod:`thfr.visualization.training`); ``images``:
        the names of those drawn; ``strips`` and ``page``: the files.

    Raises:
        InputError: a run, option or image that cannot be used; the argument is named.
    """
    target = run / files.STRIPS if out is None else out
    if target.exists() and not target.is_dir():  # said now, not after the work
        raise InputError(f"visualize: out must be a folder, got the file {target}")
    detector, dataset = open_run("visualize", run, data, device)
    check_beside(run, detector, beside)
    samples = named(dataset, images)
    visualizer = train_visualizer(run, detector, dataset, asked or {}, progress=progress)
    results = results_of(run, detector, dataset, maps, progress=progress)
    samples = samples or typical_defects(results)
    strips = make_strips(results, visualizer, beside, samples)
    *written, page, _ = write_strips(target, results, visualizer, strips)
    return {
        "network": dict(visualizer.metadata),
        "images": [name_of(sample) for sample in samples],
        "strips": [str(path) for path in written],
        "page": str(page),
    }


def named(dataset: Dataset, names: Sequence[str]) -> list[Sample]:
    """The test images of these names.

    Raises:
        InputError: a name is not that of a test image.
    """
    known = {name_of(sample): sample for sample in dataset.test}
    known |= {str(PurePosixPath(sample.kind, sample.id)): sample for sample in dataset.test}
    unknown = [name for name in names if name not in known]
    if unknown:
        raise InputError(
            f"visualize: images: expected names of test images such as {name_of(dataset.test[0])}, "
            f"got {', '.join(unknown)}"
        )
    return [known[name] for name in names]


def typical_defects(results: RunResults) -> list[Sample]:
    """Of each kind of defect the image of median score.

    Raises:
        InputError: there is no anomalous test image.
    """
    chosen = [
        typical(samples, lambda sample: results.scores[sample])[0]
        for samples in kinds_of_defect(results).values()
        if samples[0].is_anomalous
    ]
    if not chosen:
        raise InputError(
            f"visualize: images: {results.dataset.folder} has no anomalous test image, name some to draw"
        )
    return chosen


def check_beside(run: Path, detector: Detector, beside: Sequence[Path]) -> None:
    """Refuse runs whose features are not those of ``run``: one visualization network must fit them all.

    Raises:
        InputError: a run restores no features, or has another backbone, size, weights or training images;
            names it and what differs.
    """
    expected = features_of(detector)
    _check_restores(run, detector)
    for path in beside:
        try:
            other = Detector.load(path, "cpu")
        except InputError as error:
            raise InputError(f"visualize: beside: {error}") from error
        _check_restores(path, other)
        found = features_of(other)
        differing = [
            f"{name} is {found.get(name)!r}, there {expected.get(name)!r}"
            for name in {**expected, **found}
            if found.get(name) != expected.get(name)
        ]
        if differing:
            raise InputError(
                f"visualize: beside: {path} must have the features and data of {run}: {'; '.join(differing)}"
            )


def _check_restores(run: Path, detector: Detector) -> None:
    if not isinstance(detector, RestoringDetector):
        raise InputError(
            f"visualize: {run} is a run of {detector.config.label}, which restores no features to be drawn"
        )


def make_strips(
    results: RunResults, visualizer: Visualizer, beside: Sequence[Path], samples: Sequence[Sample]
) -> list[Strip]:
    """The pictures of Figure 3 for each sample: a normal image (the good test image of median score), the
    image, its reconstruction from the extracted features, from those that each run restores, the template and
    its reconstruction (of the first run that has templates), the anomaly map and the ground truth.
    """
    drawn = [{"recon": results.drawn(visualizer, sample, results.detector)} for sample in samples]
    columns: list[tuple[str, list[np.ndarray]]] = []
    templates: list[dict[str, np.ndarray]] | None = None
    for path in (results.run, *beside):  # one detector at a time in memory
        detector = (
            results.detector if path == results.run else Detector.load(path, results.detector.device.type)
        )
        restored = [results.drawn(visualizer, sample, detector, restored=True) for sample in samples]
        columns.append((_label(detector, path, columns), restored))
        if templates is None and detector.template_count:
            templates = _templates(detector, results, visualizer, results.prepared(samples))
    for label, pictured in sorted(columns, key=lambda column: _rank(column[0])):
        for panels, picture in zip(drawn, pictured, strict=True):
            panels[f"restored: {label}"] = picture
    normal = _normal(results)
    strips = []
    for index, (sample, entry) in enumerate(zip(samples, results.entries(samples), strict=True)):
        shown = dict(pictures(entry, results.scale, PANEL_EDGE))
        panels = {"normal": normal} if normal is not None else {}
        panels["input"] = shown["image"]
        made = drawn[index] | (templates[index] if templates is not None else {})
        panels |= {name: stretched(picture, shown["image"].shape[:2]) for name, picture in made.items()}
        panels["anomaly map"] = shown["anomaly map"]
        if "ground truth" in shown:
            panels["ground truth"] = shown["ground truth"]
        strips.append(Strip(sample, panels))
    return strips


def write_strips(
    out: Path, results: RunResults, visualizer: Visualizer, strips: Sequence[Strip]
) -> list[Path]:
    """Write each strip as ``out/<kind>-<id>.png``, and all of them on one page, ``out/strips.png`` and
    ``.pdf``; gives the paths, those of the page last.
    """
    columns = list(dict.fromkeys(name for strip in strips for name in strip.panels))
    kinds = {sample: name for name, samples in kinds_of_defect(results).items() for sample in samples}
    config = results.detector.config
    model = config.model
    caption = (
        f"{model.backbone}, {model.size_in_words}. Recon (from extracted features) and "
        f"restored: {visualizer.note()} The anomaly map is that of "
        f"{config.label} ({results.run.name}), its colour scale by {results.scale.source}."
    )

    def grid(shown: Sequence[Strip]) -> Grid:
        rows = [
            Row(
                kinds[strip.sample],
                f"{name_of(strip.sample)}\nscore {results.scores[strip.sample]:.3g}",
                [strip.panels.get(column) for column in columns],
            )
            for strip in shown
        ]
        title = f"{kind_label(results.dataset.category)}: what the networks restore"
        return Grid(title, columns, rows, caption, results.scale)

    written: list[Path] = []
    for strip in strips:
        written += write_grid(out / f"{strip.sample.kind}-{strip.sample.id}", grid([strip]), pdf=False)
    return written + write_grid(out / "strips", grid(strips))


def _label(detector: Detector, path: Path, taken: Sequence[tuple[str, object]]) -> str:
    """The variant's name, with the run's where two runs are of one variant."""
    label = detector.config.label
    return f"{label} ({path.name})" if any(label == other for other, _ in taken) else label


def _rank(label: str) -> int:
    name = label.split(" ")[0]
    return _ORDER.index(name) if name in _ORDER else len(_ORDER)


def _templates(
    detector: Detector, results: RunResults, visualizer: Visualizer, batch: Tensor
) -> list[dict[str, np.ndarray]]:
    """For each image its template as an image, and that image drawn from its features; nothing where the
    training image is not there any more.
    """
    found: list[dict[str, np.ndarray]] = []
    nearest = detector.nearest_templates(batch)
    assert nearest is not None  # the caller asked whether there are templates
    for index in nearest.tolist():
        path = results.training_images.get(index)
        if path is None:
            found.append({})
            continue
        template = read_image(path, results.detector.inputs.options_of(results.dataset.train[0].oriented))
        found.append({"template": template, "template recon": results.drawn(visualizer, path, detector)})
    return found


def _normal(results: RunResults) -> np.ndarray | None:
    good = [sample for sample in results.dataset.test if sample.kind == GOOD]
    if not good:
        return None
    sample = typical(good, lambda sample: results.scores[sample])[0]
    return read_image(sample.path, results.detector.inputs.options_of(sample.oriented))
