"""What every data set gives: samples by split, a mask and regions for each test image, and a full check."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar, TypeVar

import numpy as np

from thfr.data.folders import as_folder, named, quoted_list, subfolders
from thfr.data.notes import gathered
from thfr.data.parallel import parallel_map
from thfr.errors import InputError
from thfr.io import ReadOptions, image_size, list_images, printable, read_binary_mask, read_input

GOOD = "good"
_Set = TypeVar("_Set", bound="Dataset")


@dataclass(frozen=True, slots=True)
class Sample:
    """One image of a data set."""

    path: Path
    split: str
    """``train``, ``validation`` or ``test``."""
    kind: str
    """``good``, or the folder name of the anomaly (``broken_large``, ``logical_anomalies``, ...)."""
    id: str
    """The file's stem; in an :class:`~thfr.data.ImageFolder` its path below the folder, without suffix."""
    mask_paths: tuple[Path, ...] = ()
    oriented: bool = False
    """Whether its EXIF orientation is applied: not where masks are drawn on the stored pixels."""
    product: str = ""
    """Images of one value show the same product from several sides (Real-IAD); empty: every image its own."""
    category: str = ""
    """Which of several categories that are learnt together (:class:`thfr.data.JoinedDataset`); else empty."""

    @property
    def is_anomalous(self) -> bool:
        return self.kind != GOOD


def as_sample(source: Sample | str | os.PathLike[str]) -> Sample:
    """A file of no data set as a good image to learn from; a sample as it is."""
    if isinstance(source, Sample):
        return source
    path = Path(source)
    return Sample(path, "train", GOOD, path.stem, oriented=True)


@dataclass(frozen=True)
class Regions:
    """The ground-truth regions of one image, at native size."""

    masks: np.ndarray
    """bool [R, H, W]; R is 0 for a good image. Regions may overlap (MVTec LOCO AD)."""
    saturations: tuple[int, ...]
    """For each region the number of pixels, 1 to its area, that counts as having found all of it."""


@dataclass(frozen=True)
class Verification:
    """What :meth:`Dataset.check` found."""

    problems: tuple[str, ...]
    """What cannot be used: unreadable images and masks, masks of another size, masks without an image."""
    notes: tuple[str, ...]
    """What is used, but was decided upon or looks odd."""


@dataclass(frozen=True)
class Dataset(ABC):
    """One category of a data set. ``root / category`` is the folder that holds the images.

    Made by :func:`thfr.data.load_dataset`, which checks the layout but decodes nothing; files are read, and
    their content checked, by :meth:`mask`, :meth:`regions` and, all at once, :meth:`check`.
    """

    name: str
    root: Path
    category: str
    train: tuple[Sample, ...]
    validation: tuple[Sample, ...]
    test: tuple[Sample, ...]
    notes: tuple[str, ...] = ()
    """What opening it found odd: files that are not read, kinds without images."""
    _sizes: dict[Path, tuple[int, int]] = field(default_factory=dict, init=False, repr=False, compare=False)

    PROTOCOL: ClassVar[str] = "mvtec_ad"
    """Whose figures are its own: ``mvtec_ad`` (image and pixel AUROC, AU-PRO) or ``mvtec_loco`` (AU-sPRO)."""
    PRO_LIMIT: ClassVar[float] = 0.3
    """False positive rate up to which AU-PRO integrates."""

    @classmethod
    @abstractmethod
    def open(cls: type[_Set], root: Path, category: str) -> _Set:
        """Check the layout of ``root / category`` and list its samples.

        Raises:
            InputError: what is missing or wrong.
        """

    @classmethod
    def locate(cls, root: Path, category: str | None) -> tuple[Path, str]:
        """The arguments of :meth:`open`, where ``root`` may hold several categories, one, or be one itself.

        Raises:
            InputError: no such folder, no such category, or several and none is named; those found are
                listed.
        """
        folder = as_folder(root, "load_dataset")
        if cls.is_category(folder) and category in (None, folder.name):
            return folder.parent, folder.name
        if category is not None:
            return folder, named(folder, category).name
        found = cls.categories(folder)
        if len(found) == 1:
            return folder, found[0]
        if not found:
            raise InputError(
                f"load_dataset: expected {printable(folder)} to be a category (with {cls.hint()}) or to hold "
                f"some, got {quoted_list([path.name for path in subfolders(folder)], 'no folder')}"
            )
        several = quoted_list(found, "none")
        raise InputError(f"load_dataset: category must be given, {printable(folder)} holds {several}")

    @classmethod
    def categories(cls, root: Path) -> list[str]:
        """The names of the categories in ``root``, sorted.

        Raises:
            InputError: ``root`` is not a folder.
        """
        return [path.name for path in subfolders(as_folder(root, "categories")) if cls.is_category(path)]

    @classmethod
    def is_category(cls, folder: Path) -> bool:
        """Whether ``folder`` looks like a category of this format."""
        return (folder / "train").is_dir()

    @classmethod
    def hint(cls) -> str:
        """What a category's folder holds, for messages."""
        return "train/good"

    @property
    def folder(self) -> Path:
        return self.root / self.category

    @property
    def samples(self) -> tuple[Sample, ...]:
        return self.train + self.validation + self.test

    @property
    def kinds(self) -> list[str]:
        """The anomalous kinds of the test split, sorted."""
        return sorted({sample.kind for sample in self.test if sample.is_anomalous})

    @property
    def has_masks(self) -> bool:
        """Whether every anomalous test image has its mask; without, pixel figures are undefined."""
        anomalous = [sample for sample in self.test if sample.is_anomalous]
        return bool(anomalous) and all(sample.mask_paths for sample in anomalous)

    def size(self, sample: Sample) -> tuple[int, int]:
        """(height, width) of the image, of its mask and of its anomaly map; its header is read once."""
        if sample.path not in self._sizes:
            self._sizes[sample.path] = image_size(sample.path, sample.oriented)
        return self._sizes[sample.path]

    def mask(self, sample: Sample) -> np.ndarray:
        """The union of the regions, bool [H, W] at native size; all False for a good image.

        Raises:
            InputError: an anomalous image without a mask, or see :meth:`regions`.
        """
        self._need_mask(sample)
        result = np.zeros(self.size(sample), dtype=bool)
        for path in sample.mask_paths:
            result |= self._region_mask(sample, path)[0]
        return result

    @abstractmethod
    def regions(self, sample: Sample) -> Regions:
        """The regions of the image with their saturation areas.

        Raises:
            InputError: an anomalous image without a mask, an unreadable image or mask, a mask of another size
                than its image, one without an anomalous pixel or without a clear meaning
                (:func:`thfr.io.read_binary_mask`); for MVTec LOCO AD a value that is not in the config.
        """

    def check(self, progress: bool = False) -> Verification:
        """Decode every image and mask once and check them as :meth:`regions` does."""
        found = parallel_map(self._examine, self.samples, progress=progress, description="verify")
        problems = [problem for group, _ in found for problem in group] + self._stray_masks()
        return Verification(
            tuple(problems), (*self.notes, *gathered(note for _, group in found for note in group))
        )

    def verify(self, progress: bool = False) -> None:
        """:meth:`check`, as an error.

        Raises:
            InputError: lists every problem found, one on a line.
        """
        problems = self.check(progress).problems
        if problems:
            listed = "\n".join(f"  {problem}" for problem in problems)
            raise InputError(f"verify: {len(problems)} problem(s) in {printable(self.folder)}:\n{listed}")

    def _examine(self, sample: Sample) -> tuple[list[str], list[tuple[str, str]]]:
        """Problems and notes of one image and its masks."""
        problems: list[str] = []
        try:
            image = read_input(sample.path, (1, 1), ReadOptions(oriented=sample.oriented))
        except InputError as error:
            return [str(error)], []  # without the image's size no mask can be judged
        notes = [(self._shown(sample.path), note) for note in image.notes]
        for path in sample.mask_paths:
            try:
                notes += [(self._shown(path), note) for note in self._region_mask(sample, path)[2]]
            except InputError as error:
                problems.append(str(error))
        return problems, notes

    def _shown(self, path: Path) -> str:
        inside = path.is_relative_to(self.folder)
        return printable(path.relative_to(self.folder) if inside else path)

    def _need_mask(self, sample: Sample) -> None:
        if sample.is_anomalous and not sample.mask_paths:
            raise InputError(f"{self.name}: the anomalous image {printable(sample.path)} has no mask")

    def _region_mask(self, sample: Sample, path: Path) -> tuple[np.ndarray, int, tuple[str, ...]]:
        """One mask file as bool [H, W], checked; the value that names its defect (1 where none does);
        notes.
        """
        found = read_binary_mask(path)
        self._check_mask(sample, path, found.pixels)
        return found.pixels, 1, found.notes

    def _check_mask(self, sample: Sample, path: Path, mask: np.ndarray) -> None:
        expected = self.size(sample)
        if mask.shape != expected:
            stored = image_size(sample.path)
            hint = " as stored; its EXIF orientation turns it" if mask.shape == stored else ""
            raise InputError(
                f"{self.name}: mask {printable(path)} is {mask.shape[1]}x{mask.shape[0]} (W x H){hint}, "
                f"its image {printable(sample.path)} is {expected[1]}x{expected[0]}"
            )
        if not mask.any():
            raise InputError(f"{self.name}: mask {printable(path)} has no anomalous pixel (all are 0)")

    def _stray_masks(self) -> list[str]:
        """Masks that belong to no image: usually a sign of a half-copied test split."""
        folder = self.folder / "ground_truth"
        if not folder.is_dir():
            return []
        used = {path for sample in self.test for path in sample.mask_paths}
        below = [folder / kind for kind in self.kinds]
        anomalous = (path for kind in below if kind.is_dir() for path in list_images(kind, recursive=True))
        stray = [path for path in anomalous if path not in used]
        return [f"{self.name}: mask {printable(path)} belongs to no test image" for path in stray]


@dataclass(frozen=True)
class ComponentDataset(Dataset):
    """A data set with one mask an image: its 8-connected components are the regions."""

    def regions(self, sample: Sample) -> Regions:
        return components(self.mask(sample))


class WholeDataset(ComponentDataset):
    """One that is a single category: ``root`` is its folder, or holds the folder ``category``."""

    @classmethod
    def locate(cls, root: Path, category: str | None) -> tuple[Path, str]:
        folder = as_folder(root, "load_dataset")
        chosen = folder if category is None else named(folder, category)
        return chosen.parent, chosen.name


def components(
    mask: np.ndarray,  # bool [H, W]
) -> Regions:
    """The 8-connected components of a mask, each of which counts as found at its whole area."""
    from scipy.ndimage import label  # not needed by a data set with a mask a region

    labels, count = label(mask, np.ones((3, 3)))
    masks = labels[None] == np.arange(1, count + 1)[:, None, None]
    return Regions(masks=masks, saturations=tuple(int(region.sum()) for region in masks))
