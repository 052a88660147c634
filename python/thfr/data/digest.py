"""What exactly a result was measured on: image counts, native sizes and a hash of every split's files."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from thfr.data.base import Dataset, Sample
from thfr.data.parallel import parallel_map
from thfr.io import file_sha256, storable

_CONFIG_NAME = "defects_config.json"


def fingerprint(dataset: Dataset, *, progress: bool = False) -> dict[str, dict[str, Any]]:
    """For each split that has images: ``images`` (their number by kind), ``sizes`` (number of images by
    native size, "width x height" in pixels) and ``sha256``.

    The hash is over the names below the category's folder and the bytes of all files of the split: images,
    for ``test`` also their masks and, for MVTec LOCO AD, ``defects_config.json``. It does not depend on where
    the data lie, so two people with the official download get the same; a re-encoded copy gives another.
    """
    facts = {}
    for split in ("train", "validation", "test"):
        samples: tuple[Sample, ...] = getattr(dataset, split)
        if samples:
            sizes = Counter("{1}x{0}".format(*dataset.size(sample)) for sample in samples)
            facts[split] = {
                "images": dict(sorted(Counter(sample.kind for sample in samples).items())),
                "sizes": dict(sorted(sizes.items())),
                "sha256": _hash_files(dataset.folder, _files(dataset, split, samples), progress),
            }
    return facts


def _files(dataset: Dataset, split: str, samples: Sequence[Sample]) -> list[Path]:
    files = [path for sample in samples for path in (sample.path, *sample.mask_paths)]
    if split == "test" and (dataset.folder / _CONFIG_NAME).is_file():
        files.append(dataset.folder / _CONFIG_NAME)
    return files


def _hash_files(folder: Path, files: Sequence[Path], progress: bool) -> str:
    digests = parallel_map(file_sha256, files, progress=progress, description="hash files")
    lines = sorted(f"{_below(path, folder)} {one}\n" for path, one in zip(files, digests, strict=True))
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def _below(path: Path, folder: Path) -> str:
    """The file's path below the folder; where it lies elsewhere (a table may name any file) its last two
    parts.
    """
    inside = path.is_relative_to(folder)
    return storable((path.relative_to(folder) if inside else Path(*path.parts[-2:])).as_posix())
