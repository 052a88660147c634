"""What to predict, and where each image's results go, such that no two images share a file."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from thfr.data import Dataset, Sample
from thfr.errors import InputError
from thfr.io import IMAGE_SUFFIXES, list_images, result_name


@dataclass(frozen=True)
class Item:
    """One image to predict. ``name``, ``map`` and ``overlay`` are relative, with ``/`` between folders."""

    path: Path
    name: str
    """The path below the source folder; unique."""
    map: str
    """The anomaly map's path below the output folder."""
    overlay: str
    """The picture's path below the output folder."""
    sample: Sample | None = None
    """Where the image comes from a data set."""


def collect(source: str | os.PathLike[str] | Dataset, out: Path) -> list[Item]:
    """List the images of a file, of a folder with its sub-folders, or of a data set's test split; decodes
    nothing.

    Files and folders: ``maps/<name>.tiff`` and ``overlays/<name>.png``, where the name keeps sub-folders
    *and suffix*: ``a.png`` and ``a.jpg`` of one folder must not share a result. What lies below ``out`` is
    no input, so that ``out`` may be inside the source folder. Data sets: maps in the official tree,
    ``<category>/test/<kind>/<id>.tiff``, which ``thfr evaluate --maps`` reads; pictures in
    ``overlays/<category>/test/<kind>/<id>.png``.

    Raises:
        InputError: no such file or folder, not an image by its suffix, no image in the folder, no test
            split, or ``out`` is the source folder itself.
    """
    if isinstance(source, Dataset):
        return _of_dataset(source)
    path = Path(source)
    if path.is_dir():
        return _of_folder(path, out)
    if not path.is_file():
        raise InputError(f"predict: source must be an image or a folder of images, {path} does not exist")
    if path.suffix.lower() not in IMAGE_SUFFIXES:
        raise InputError(
            f"predict: source must be an image ({' '.join(IMAGE_SUFFIXES)}) or a folder, got {path}"
        )
    return [_plain(path, path.name)]


def _of_folder(folder: Path, out: Path) -> list[Item]:
    inside, results = folder.resolve(), out.resolve()
    if inside == results:
        raise InputError(f"predict: out must not be the folder of the images itself, got {out} for both")
    found = [
        path for path in list_images(folder, recursive=True) if not path.resolve().is_relative_to(results)
    ]
    if not found:
        raise InputError(f"predict: no image ({' '.join(IMAGE_SUFFIXES)}) in {folder}")
    return [_plain(path, path.relative_to(folder).as_posix()) for path in found]


def _plain(path: Path, name: str) -> Item:
    return Item(path, name, f"maps/{result_name(name, '.tiff')}", f"overlays/{result_name(name, '.png')}")


def _of_dataset(dataset: Dataset) -> list[Item]:
    if not dataset.test:
        raise InputError(f"predict: the {dataset.name} data set {dataset.folder} has no test images")
    items = []
    for sample in dataset.test:
        stem = PurePosixPath(dataset.category, "test", sample.kind, sample.id)
        items.append(Item(sample.path, name_of(sample), f"{stem}.tiff", f"overlays/{stem}.png", sample))
    return items


def name_of(sample: Sample) -> str:
    """A test image's name in tables and options: ``kind/file``."""
    return f"{sample.kind}/{sample.path.name}"
