"""What to predict, and where each image's results go, such that no two images share a file."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from thfr.data import Dataset, Sample
from thfr.errors import InputError
from thfr.io import IMAGE_SUFFIXES, Listing, find_images, printable, result_name, storable
from thfr.io.opening import what_is


@dataclass(frozen=True)
class Item:
    """One image to predict. ``name``, ``map`` and ``overlay`` are relative, with ``/`` between folders."""

    path: Path
    name: str
    """The path below the source folder as UTF-8 text (:func:`thfr.io.storable`); unique."""
    map: str
    """The anomaly map's path below the output folder."""
    overlay: str
    """The picture's path below the output folder."""
    sample: Sample | None = None
    """Where the image comes from a data set."""


@dataclass(frozen=True)
class Collected:
    """What :func:`collect` found."""

    items: tuple[Item, ...]
    notes: tuple[str, ...]
    """Files that are not looked at, and what opening a data set found odd."""


def collect(source: str | os.PathLike[str] | Dataset, out: Path) -> Collected:
    """List the images of a file, of a folder with its sub-folders, or of a data set's test split; decodes
    nothing.

    Files and folders: ``maps/<name>.tiff`` and ``overlays/<name>.png``, where the name keeps sub-folders
    *and suffix*: ``a.png`` and ``a.jpg`` of one folder must not share a result. What lies below ``out`` is
    no input, so that ``out`` may be inside the source folder. Data sets: maps in the official tree,
    ``<category>/test/<kind>/<id>.tiff``, which ``thfr evaluate --maps`` reads; pictures in
    ``overlays/<category>/test/<kind>/<id>.png``. Names of results are UTF-8 and no longer than file systems
    take (:func:`thfr.io.result_name`).

    Raises:
        InputError: no such file or folder, not an image by its suffix, no image in the folder, no test
            split, two images of one name, or ``out`` is the source folder itself.
    """
    if isinstance(source, Dataset):
        return _of_dataset(source)
    path = Path(source)
    if path.is_dir():
        return _of_folder(path, out)
    if not path.is_file():
        raise InputError(
            f"predict: source must be an image or a folder of images, got {printable(path)} ({what_is(path)})"
        )
    if path.suffix.lower() not in IMAGE_SUFFIXES:
        raise InputError(
            f"predict: source must be an image ({' '.join(IMAGE_SUFFIXES)}) or a folder, "
            f"got {printable(path)}"
        )
    return Collected((plain_item(path, path.name),), ())


def _of_folder(folder: Path, out: Path) -> Collected:
    listing = listed(folder, out)
    items = tuple(plain_item(path, path.relative_to(folder).as_posix()) for path in listing.images)
    return Collected(_distinct(items), tuple(listing.notes(folder)))


def listed(folder: Path, out: Path) -> Listing:
    """The files of a folder that do not lie below ``out``.

    Raises:
        InputError: as :func:`collect`.
    """
    inside, results = folder.resolve(), out.resolve()
    if inside == results:
        raise InputError(f"predict: out must not be the folder of the images itself, got {out} for both")
    found = find_images(folder, recursive=True)

    def outside(paths: tuple[Path, ...]) -> tuple[Path, ...]:
        return tuple(path for path in paths if not path.resolve().is_relative_to(results))

    listing = Listing(outside(found.images), outside(found.ignored), found.repeated)
    if not listing.images:
        raise InputError(f"predict: no image ({' '.join(IMAGE_SUFFIXES)}) in {printable(folder)}")
    return listing


def plain_item(path: Path, name: str) -> Item:
    """The image ``path`` as one of that name below its source."""
    shown = _writable(name)
    return Item(
        path, storable(name), result_name(f"maps/{shown}", ".tiff"), result_name(f"overlays/{shown}", ".png")
    )


def _writable(name: str) -> str:
    """The name as one that UTF-8 can hold, for a file; with a digest if that is another."""
    shown = storable(name)
    return shown if shown == name else f"{shown}~{hashlib.sha256(os.fsencode(name)).hexdigest()[:12]}"


def _distinct(items: tuple[Item, ...]) -> tuple[Item, ...]:
    """The items; InputError if two have one name or would write one file."""
    for key in ("name", "map"):
        known: dict[str, Item] = {}
        for item in items:
            other = known.setdefault(getattr(item, key), item)
            if other is not item:
                raise InputError(
                    f"predict: two images would have the results of one: {printable(item.path)} and "
                    f"{printable(other.path)}"
                )
    return items


def _of_dataset(dataset: Dataset) -> Collected:
    if not dataset.test:
        raise InputError(f"predict: the {dataset.name} data set {dataset.folder} has no test images")
    items = []
    for sample in dataset.test:
        stem = map_stem(dataset, sample)
        pictured = result_name(f"overlays/{stem}", ".png")
        items.append(Item(sample.path, name_of(sample), result_name(stem, ".tiff"), pictured, sample))
    return Collected(_distinct(tuple(items)), dataset.notes)


def map_stem(dataset: Dataset, sample: Sample) -> str:
    """Where in a folder of maps that of a test image lies, without ``.tiff``: the official tree."""
    return _writable(
        PurePosixPath(sample.category or dataset.category, "test", sample.kind, sample.id).as_posix()
    )


def name_of(sample: Sample) -> str:
    """A test image's name in tables and options: ``kind/file``, with the folders of its id; of several
    categories ``category/kind/file``.
    """
    suffix = "" if sample.id.endswith(sample.path.suffix) else sample.path.suffix
    category = f"{sample.category}/" if sample.category else ""
    return storable(f"{category}{sample.kind}/{sample.id}{suffix}")
