"""Qualitative results of a category, one page of typical defects (supplement, Figures 4 to 10)."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from thfr.data import Sample
from thfr.data.base import GOOD
from thfr.errors import InputError
from thfr.runs import files
from thfr.visualization.gallery import Entry, pictures
from thfr.visualization.grid import PANEL_EDGE, Grid, Row, write_grid
from thfr.visualization.plots import kind_label
from thfr.visualization.results import RunResults, defects_of, open_results
from thfr.visualization.typical import typical


def qualitative(
    run: Path,
    out: Path | None = None,
    *,
    per_kind: int = 1,
    data: str | os.PathLike[str] | None = None,
    maps: Path | None = None,
    device: str = "auto",
    progress: bool = False,
) -> dict[str, Any]:
    """Draw the page of a run's test images, :func:`write_qualitative`, into ``out`` (None: ``run/gallery``).

    Returns:
        ``pages``: the files; ``kinds``: the number of test images of each kind of defect.

    Raises:
        InputError: a run, option or image that cannot be used; the argument is named.
    """
    target = run / files.GALLERY if out is None else out
    if target.exists() and not target.is_dir():  # said now, not after the work
        raise InputError(f"gallery: out must be a folder, got the file {target}")
    results = open_results("gallery", run, data, maps=maps, device=device, progress=progress)
    pages = write_qualitative(target, results, per_kind)
    kinds = {name: len(samples) for name, samples in kinds_of_defect(results).items()}
    return {"pages": [str(page) for page in pages], "kinds": kinds}


def write_qualitative(out: Path, results: RunResults, per_kind: int = 1) -> list[Path]:
    """Write ``out/<category>.png`` and ``.pdf``: good images first, then each kind of defect.

    A kind of defect is a folder of the test split, in MVTec LOCO AD the names of the defects in an image by
    its masks' pixel values. Shown are, by the order of their scores, ``per_kind`` images of each that are
    spread evenly over it (:func:`thfr.visualization.typical.typical`); one: the median. All maps have the one
    colour scale of the whole set. Gives the paths, the PDF last.

    Raises:
        InputError: an image, map or mask cannot be read.
    """
    groups = kinds_of_defect(results)
    rows = []
    columns: list[str] = []
    for name, samples in groups.items():
        chosen = typical(samples, lambda sample: results.scores[sample], per_kind)
        for entry in results.entries(chosen):
            panels = dict(pictures(entry, results.scale, PANEL_EDGE))
            columns += [label for label in panels if label not in columns]
            rows.append((name, entry, panels))
    grid = Grid(
        title=f"{kind_label(results.dataset.category)}: qualitative results",
        columns=columns,
        rows=[
            Row(name, _note(entry, len(groups[name])), [panels.get(column) for column in columns])
            for name, entry, panels in rows
        ],
        caption=_caption(results, per_kind),
        scale=results.scale,
    )
    return write_grid(out / results.dataset.category, grid)


def kinds_of_defect(results: RunResults) -> dict[str, list[Sample]]:
    """The test images by kind of defect, in words: the good ones first, then folder by folder."""
    groups: dict[str, list[Sample]] = {}
    for sample in sorted(results.dataset.test, key=lambda sample: (sample.kind != GOOD, sample.kind)):
        names = [kind_label(name) for name in defects_of(results.dataset, sample)]
        groups.setdefault(" + ".join(sorted(names)) or GOOD, []).append(sample)
    return groups


def _note(entry: Entry, total: int) -> str:
    return f"{entry.name}\nscore {entry.score:.3g}, of {total} images"


def _caption(results: RunResults, per_kind: int) -> str:
    config = results.detector.config
    model = config.model
    which = (
        "the image of median score of each kind"
        if per_kind == 1
        else f"{per_kind} images of each kind, evenly spread over the order of their scores"
    )
    restored = "" if results.visualizer is None else f" Restored: {results.visualizer.note()}"
    return (
        f"{config.label} on {model.backbone}, {model.size_in_words}. Shown: {which}, "
        f"chosen by this rule alone. One colour scale for all images, by {results.scale.source}.{restored}"
    )
