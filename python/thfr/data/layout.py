"""Folders of images and of masks as official layouts have them, tolerant of what copying does to names."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from difflib import get_close_matches
from pathlib import Path

from thfr.data.base import GOOD, Sample
from thfr.data.folders import describe, subfolders
from thfr.errors import InputError
from thfr.io import find_images, list_images, printable

_LISTED = 20  # missing masks that a message names


def collect(
    name: str,
    folder: Path,
    split: str,
    kind: str,
    source: str,
    notes: list[str],
    *,
    optional: bool = False,
    skip: Sequence[str] = (),
) -> list[Sample]:
    """The images of ``folder / source`` as samples of that split and kind, without masks.

    Files that are not read are noted, and images in folders where the layout has none (but those of
    ``skip``); with ``optional``, so is an empty folder.

    Raises:
        InputError: the folder is missing or (unless ``optional``) empty, or two images have the same id.
    """
    images_folder = folder / source
    if not images_folder.is_dir():
        raise InputError(
            f"{name}: expected the folder {source} in {printable(folder)}, got {describe(folder)}"
        )
    listing = find_images(images_folder)
    notes += listing.notes(images_folder)
    notes += _unread(images_folder, skip)
    if not optional and "/" in source:  # of several kinds all folders are read
        notes += _loose(images_folder.parent) + _unread(images_folder.parent, (images_folder.name,))
    if not listing.images:
        if not optional:
            raise InputError(f"{name}: the {split} split is empty: no image in {printable(images_folder)}")
        notes.append(f"{source} is empty: kind {printable(kind)} counts as absent")
    samples = [Sample(path=path, split=split, kind=kind, id=path.stem) for path in listing.images]
    check_ids(name, samples)
    return samples


def _unread(folder: Path, known: Sequence[str]) -> list[str]:
    """A note on images that lie in ``folder``'s folders but those ``known``, which nobody looks at."""
    odd = [path for path in subfolders(folder) if path.name not in known and has_images(path)]
    names = ", ".join(printable(path.name) for path in odd[:_LISTED])
    return [f"{printable(folder)}: the images in its folder(s) {names} are not read"] if odd else []


def _loose(folder: Path) -> list[str]:
    """A note on images that lie beside the folders which are read."""
    found = list_images(folder)
    names = ", ".join(printable(path.name) for path in found[:_LISTED])
    return (
        [f"{printable(folder)}: {len(found)} image(s) beside its folders are not read: {names}"]
        if found
        else []
    )


def check_ids(name: str, samples: Sequence[Sample]) -> None:
    """Raises InputError if two samples of a kind have the same id: their results would share a file."""
    seen: dict[tuple[str, str], Path] = {}
    for sample in samples:
        before = seen.setdefault((sample.kind, sample.id), sample.path)
        if before is not sample.path:
            both = f"{printable(before)} and {printable(sample.path)}"
            raise InputError(f"{name}: two images with the id {printable(sample.id)}: {both}")


def collect_kinds(
    name: str,
    folder: Path,
    split: str,
    source: str,
    notes: list[str],
    good: Sequence[str] = (GOOD,),
    skip: Sequence[str] = (),
) -> list[Sample]:
    """The images of every folder in ``folder / source`` but those of ``skip``; a folder named as one of
    ``good`` holds good images.

    Raises:
        InputError: ``source`` is missing or holds no image, or two images of a kind have the same id.
    """
    base = folder / source
    if not base.is_dir():
        raise InputError(
            f"{name}: expected the folder {source} in {printable(folder)}, got {describe(folder)}"
        )
    notes += _loose(base)
    samples: list[Sample] = []
    for path in [path for path in subfolders(base) if path.name not in skip]:
        kind = GOOD if path.name in good else path.name
        samples += collect(name, folder, split, kind, f"{source}/{path.name}", notes, optional=True)
    if not samples:
        raise InputError(f"{name}: the {split} split is empty: no image in the folders of {printable(base)}")
    return samples


def with_masks(
    name: str, folder: Path, samples: Sequence[Sample], suffixes: Sequence[str] = ("_mask", "")
) -> list[Sample]:
    """The samples with the mask of ``folder`` that has their id and one of ``suffixes``, any case and
    extension.

    Raises:
        InputError: samples without a mask (all are named, with what looks like it), or with two.
    """
    present: dict[str, list[Path]] = {}
    for path in list_images(folder, recursive=True) if folder.is_dir() else []:
        stem = path.relative_to(folder).with_suffix("").as_posix()
        present.setdefault(stem.lower(), []).append(path)
    found, missing = [], []
    for sample in samples:
        stems = [f"{sample.id}{suffix}".lower() for suffix in suffixes]
        paths = next((present[stem] for stem in stems if stem in present), [])
        if len(paths) > 1:
            both = " and ".join(printable(path.name) for path in paths)
            raise InputError(f"{name}: two masks for {printable(sample.path)}: {both} in {printable(folder)}")
        if paths:
            found.append(replace(sample, mask_paths=(paths[0],)))
        else:
            missing.append(sample)
    if missing:
        lines = [_missing(folder, sample, suffixes[0], present) for sample in missing[:_LISTED]]
        more = [f"and {len(missing) - _LISTED} more"] if len(missing) > _LISTED else []
        raise InputError(f"{name}: " + "\n  ".join([*lines, *more]))
    return found


def with_ground_truth(
    name: str,
    folder: Path,
    samples: list[Sample],
    notes: list[str],
    source: str = "ground_truth",
    masks: Callable[[str, Path, Sequence[Sample]], list[Sample]] = with_masks,
) -> list[Sample]:
    """The samples, anomalous ones with their masks of ``folder / source / kind``, as ``masks`` finds them for
    one kind. Without any image there the data set has no masks, which is noted.

    Raises:
        InputError: there are masks, but not for every anomalous sample.
    """
    if not has_images(folder / source):
        if any(sample.is_anomalous for sample in samples):
            notes.append(f"no {source}: there are no masks, pixel figures are undefined")
        return samples
    found: list[Sample] = []
    for kind in dict.fromkeys(sample.kind for sample in samples):
        of_kind = [sample for sample in samples if sample.kind == kind]
        found += of_kind if kind == GOOD else masks(name, folder / source / kind, of_kind)
    return found


def check_listed(name: str, source: str, splits: Mapping[str, Sequence[Sample]]) -> None:
    """Check the samples that the file ``source`` lists for training and test.

    Raises:
        InputError: files are missing, a split is empty, or an anomalous image is for training.
    """
    files = [file for split in splits.values() for one in split for file in (one.path, *one.mask_paths)]
    missing = [printable(file) for file in files if not file.is_file()]
    if missing:
        some = ", ".join(missing[:5])
        raise InputError(f"{name}: {len(missing)} file(s) of {source} are missing: {some}")
    if not splits["train"] or not splits["test"]:
        raise InputError(f"{name}: {source} lists no training or no test image")
    if any(sample.is_anomalous for sample in splits["train"]):
        raise InputError(f"{name}: {source} lists anomalous training images; expected a one-class split")


def _missing(folder: Path, sample: Sample, suffix: str, present: dict[str, list[Path]]) -> str:
    expected = folder / f"{sample.id}{suffix}.png"
    near = get_close_matches(expected.stem.lower(), present, n=1, cutoff=0.7)
    hint = f" (is it {printable(present[near[0]][0].name)}?)" if near else ""
    image, mask = printable(sample.path), printable(expected)
    return f"the anomalous image {image} has no mask: expected {mask}{hint}"


def has_images(folder: Path) -> bool:
    """Whether the folder is there and holds an image at any depth."""
    return folder.is_dir() and bool(list_images(folder, recursive=True))
