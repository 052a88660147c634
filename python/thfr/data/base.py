"""What every data set gives: samples by split, a mask and regions for each test image, and a full check."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from thfr.data.parallel import parallel_map
from thfr.errors import InputError
from thfr.io import image_size, list_images, read_image, read_mask

GOOD = "good"


@dataclass(frozen=True)
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

    @property
    def is_anomalous(self) -> bool:
        return self.kind != GOOD


@dataclass(frozen=True)
class Regions:
    """The ground-truth regions of one image, at native size."""

    masks: np.ndarray
    """bool [R, H, W]; R is 0 for a good image. Regions may overlap (MVTec LOCO AD)."""
    saturations: tuple[int, ...]
    """For each region the number of pixels, 1 to its area, that counts as having found all of it."""


@dataclass(frozen=True)
class Dataset(ABC):
    """One category of a data set. ``root / category`` is the folder that holds the images.

    Made by :func:`thfr.data.load_dataset`, which checks the layout but decodes nothing; files are read, and
    their content checked, by :meth:`mask`, :meth:`regions` and, all at once, :meth:`verify`.
    """

    name: str
    root: Path
    category: str
    train: tuple[Sample, ...]
    validation: tuple[Sample, ...]
    test: tuple[Sample, ...]

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

    def mask(self, sample: Sample) -> np.ndarray:
        """The union of the regions, bool [H, W] at native size; all False for a good image.

        Raises:
            InputError: see :meth:`regions`.
        """
        result = np.zeros(image_size(sample.path), dtype=bool)
        for path in sample.mask_paths:
            result |= self._region_mask(sample, path)[0]
        return result

    @abstractmethod
    def regions(self, sample: Sample) -> Regions:
        """The regions of the image with their saturation areas.

        Raises:
            InputError: an unreadable image or mask, a mask of another size than its image, one without an
                anomalous pixel or with several values; for MVTec LOCO AD a value that is not in the config.
        """

    def verify(self, progress: bool = False) -> None:
        """Decode every image and mask once and check them as :meth:`regions` does.

        Raises:
            InputError: lists every problem found, one on a line.
        """
        found = parallel_map(self._problems, self.samples, progress=progress, description="verify")
        problems = [problem for group in found for problem in group] + self._stray_masks()
        if problems:
            listed = "\n".join(f"  {problem}" for problem in problems)
            raise InputError(f"verify: {len(problems)} problem(s) in {self.folder}:\n{listed}")

    def _problems(self, sample: Sample) -> list[str]:
        problems = []
        try:
            read_image(sample.path)
        except InputError as error:
            return [str(error)]  # without the image's size no mask can be judged
        for path in sample.mask_paths:
            try:
                self._region_mask(sample, path)
            except InputError as error:
                problems.append(str(error))
        return problems

    def _region_mask(self, sample: Sample, path: Path) -> tuple[np.ndarray, int]:
        """One mask file as bool [H, W] and its single non-zero pixel value, checked."""
        values = read_mask(path)
        expected = image_size(sample.path)
        if values.shape != expected:
            raise InputError(
                f"{self.name}: mask {path} is {values.shape[1]}x{values.shape[0]} (W x H), "
                f"its image {sample.path} is {expected[1]}x{expected[0]}"
            )
        present = np.flatnonzero(np.bincount(values.ravel(), minlength=256)[1:]) + 1
        if len(present) == 0:
            raise InputError(f"{self.name}: mask {path} has no anomalous pixel (all are 0)")
        if len(present) > 1:
            raise InputError(
                f"{self.name}: mask {path} must hold one non-zero value, got {len(present)}: "
                f"{', '.join(map(str, present[:8]))}{', ...' if len(present) > 8 else ''}"
            )
        return values != 0, int(present[0])

    def _stray_masks(self) -> list[str]:
        """Masks that belong to no image: usually a sign of a half-copied test split."""
        folder = self.folder / "ground_truth"
        if not folder.is_dir():
            return []
        used = {path for sample in self.test for path in sample.mask_paths}
        anomalous = (path for kind in self.kinds for path in _images_below(folder / kind))
        stray = [path for path in anomalous if path not in used]
        return [f"{self.name}: mask {path} belongs to no test image" for path in stray]


def _images_below(folder: Path) -> list[Path]:
    return list_images(folder, recursive=True) if folder.is_dir() else []


def subfolders(folder: Path) -> list[Path]:
    """The folders in ``folder``, sorted by name; dot-folders are left out."""
    return sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))


def collect(name: str, folder: Path, split: str, kind: str) -> list[Sample]:
    """The images of ``folder / split / kind`` as samples, without masks.

    Raises:
        InputError: the folder is missing or holds no image, or two images have the same id.
    """
    source = folder / split / kind
    if not source.is_dir():
        raise InputError(f"{name}: expected the folder {split}/{kind} in {folder}, got {describe(folder)}")
    images = list_images(source)
    if not images:
        raise InputError(f"{name}: the {split} split is empty: no image in {source}")
    samples = [Sample(path=path, split=split, kind=kind, id=path.stem) for path in images]
    seen: dict[str, Path] = {}
    for sample in samples:
        if sample.id in seen:
            both = f"{seen[sample.id]} and {sample.path}"
            raise InputError(f"{name}: two images with the id {sample.id}: {both}")
        seen[sample.id] = sample.path
    return samples


def test_kinds(name: str, folder: Path) -> list[str]:
    """The folders below ``folder / test``, sorted.

    Raises:
        InputError: ``test`` is missing or empty.
    """
    if not (folder / "test").is_dir():
        raise InputError(f"{name}: expected the folder test in {folder}, got {describe(folder)}")
    kinds = [path.name for path in subfolders(folder / "test")]
    if not kinds:
        raise InputError(f"{name}: the test split is empty: no folder in {folder / 'test'}")
    return kinds


def describe(folder: Path) -> str:
    """What a folder holds, in a few words, for error messages."""
    if not folder.is_dir():
        return "a file" if folder.exists() else "nothing (it does not exist)"
    return quoted_list([path.name for path in subfolders(folder)], "no folder")


def quoted_list(names: Sequence[str], empty: str, limit: int = 20) -> str:
    if not names:
        return empty
    return ", ".join(names[:limit]) + (f" and {len(names) - limit} more" if len(names) > limit else "")


def as_folder(path: str | os.PathLike[str], caller: str) -> Path:
    """``path`` made absolute.

    Raises:
        InputError: it is not a folder.
    """
    folder = Path(path).expanduser().resolve()
    if not folder.is_dir():
        state = "a file" if folder.exists() else "which does not exist"
        raise InputError(f"{caller}: expected a folder of data, got {path} ({state})")
    return folder
