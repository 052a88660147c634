"""A folder of one's own: good images only, or good and bad ones, with or without masks."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path

from thfr.data.base import GOOD, Sample, WholeDataset
from thfr.data.folders import subfolders
from thfr.data.layout import check_ids, with_ground_truth
from thfr.data.registry import register_dataset
from thfr.errors import InputError
from thfr.io import IMAGE_SUFFIXES, find_images, printable

GOOD_NAMES = ("good", "ok", "normal")
BAD_NAMES = ("bad", "ng", "ko", "nok", "defect", "defective", "anomaly", "anomalous", "abnormal")
_MASKS = ("ground_truth", "masks")
_EVERY = 5
"""Of good images beside bad ones, each fifth is kept for the test."""


@register_dataset("folder")
@dataclass(frozen=True)
class ImageFolder(WholeDataset):
    """Images with their sub-folders; EXIF orientations are applied. Names count in any case:

    - ``train`` (all good; or ``train/good``) and ``test`` with ``good`` and any other folders, the kinds;
    - ``good`` and ``bad`` (:data:`GOOD_NAMES`, :data:`BAD_NAMES`): each fifth good image and all bad ones are
    for the
      test; folders in ``bad`` are kinds;
    - anything else: every image is good and for training.

    Masks, if any, lie in ``ground_truth`` (or ``masks``) as ``<kind>/<id>_mask.png`` or ``<kind>/<id>.png``.
    """

    @classmethod
    def open(cls, root: Path, category: str) -> ImageFolder:
        folder, notes = root / category, list[str]()
        parts = {path.name.lower(): path for path in subfolders(folder)}
        good, bad = _first(parts, GOOD_NAMES), _first(parts, BAD_NAMES)
        if "train" in parts and "test" in parts:
            train = _good_part(parts["train"], notes)
            test = _kinds_of(parts["test"], notes)
        elif good is not None and bad is not None:
            every = _images(good, good, "train", GOOD, notes)
            train = [sample for index, sample in enumerate(every) if index % _EVERY != _EVERY - 1]
            test = [replace(sample, split="test") for sample in every[_EVERY - 1 :: _EVERY]]
            test += _kinds_of(bad, notes, beside="bad")
            notes.append(
                f"good/ and bad/: {len(test)} images are for the test, among them each fifth good one"
            )
        else:
            train, test = _images(folder, folder, "train", GOOD, notes), []
        if not train:
            raise InputError(f"folder: no image ({' '.join(IMAGE_SUFFIXES)}) in {printable(folder)}")
        check_ids("folder", [*test])
        truth = _first(parts, _MASKS)
        if truth is not None:
            test.sort(key=lambda sample: sample.is_anomalous)
        test = with_ground_truth("folder", folder, test, notes, truth.name if truth else _MASKS[0])
        return cls("folder", root, category, tuple(train), (), tuple(test), tuple(notes))


def _first(parts: dict[str, Path], names: tuple[str, ...]) -> Path | None:
    return next((parts[name] for name in names if name in parts), None)


def _images(folder: Path, base: Path, split: str, kind: str, notes: list[str]) -> list[Sample]:
    """The images below ``folder``; their ids are paths below ``base``, with the suffix where two would be
    one.
    """
    listing = find_images(folder, recursive=True)
    notes += listing.notes(folder)
    stems = Counter(path.with_suffix("") for path in listing.images)
    samples = []
    for path in listing.images:
        shown = path.with_suffix("") if stems[path.with_suffix("")] == 1 else path
        samples.append(Sample(path, split, kind, shown.relative_to(base).as_posix(), oriented=True))
    return samples


def _good_part(folder: Path, notes: list[str]) -> list[Sample]:
    """Of ``train`` only what is good: ``train/good`` if there is one, else all of it."""
    parts = {path.name.lower(): path for path in subfolders(folder)}
    good = _first(parts, GOOD_NAMES) or folder
    others = [path.name for path in subfolders(folder) if good != folder and path != good]
    if others:
        notes.append(f"train/: only {good.name} is learnt from, not {', '.join(map(printable, others))}")
    return _images(good, good, "train", GOOD, notes)


def _kinds_of(folder: Path, notes: list[str], beside: str | None = None) -> list[Sample]:
    """The images of each folder in ``folder``; those right in it are of the kind ``beside``, or an error."""
    samples: list[Sample] = []
    for path in subfolders(folder):
        kind = GOOD if path.name.lower() in GOOD_NAMES and beside is None else path.name
        found = _images(path, path, "test", kind, notes)
        if not found:
            notes.append(f"{printable(path.name)} holds no image: counts as absent")
        samples += found
    loose = find_images(folder).images
    if loose and beside is None:
        raise InputError(
            f"folder: expected folders (good, kinds of defects) in {printable(folder)}, got {len(loose)} "
            f"image(s) ({printable(loose[0].name)})"
        )
    stems = Counter(path.stem for path in loose)
    for path in loose:
        stem = path.stem if stems[path.stem] == 1 else path.name
        samples.append(Sample(path, "test", beside or GOOD, stem, oriented=True))
    if not samples:
        raise InputError(f"folder: the test split is empty: no image in {printable(folder)}")
    return samples
