"""Images for a network: decoded and resized once, kept by the caller."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from thfr.data.base import Sample
from thfr.data.mapped import give_back, mapped_bytes
from thfr.data.parallel import parallel_map
from thfr.errors import InputError
from thfr.io import AS_STORED, ImageInput, ReadOptions, read_input

_AT_ONCE = 256  # images in memory of those in a file
Source = Sample | str | os.PathLike[str]


@dataclass(frozen=True)
class Loaded:
    """Images read for a network."""

    images: torch.Tensor
    """uint8 [N, 3, H, W]."""
    sizes: tuple[tuple[int, int], ...]
    """(height, width) of each image in its file."""
    notes: tuple[tuple[str, str], ...]
    """(file name, note), for :func:`thfr.data.notes.gathered`."""


def load_inputs(
    sources: Sequence[Source],
    size: tuple[int, int],
    options: ReadOptions = AS_STORED,
    *,
    threads: int | None = None,
    progress: bool = False,
    budget: int | None = None,
    folder: Path | None = None,
) -> Loaded:
    """Read images as RGB, resized to ``size`` = (height, width), anti-aliased bilinear.

    Decoding and resizing cost more than a network's step, so load once and keep the result: 0.2 MB an image
    at 256 x 256. Runs on ``threads`` threads (default: the usable processors, at most 16). A sample says
    itself whether it is ``oriented``, whatever ``options`` say.

    Above ``budget`` bytes the pixels lie in a file in ``folder`` that has no name and goes with the tensor,
    and in memory are those being read (:mod:`thfr.data.mapped`). (On Windows, where a file in use keeps its
    name, in memory.)

    Raises:
        InputError: no source, a bad size, no room on the disk, or images that cannot be read (all of them
            are named).
    """
    if len(size) != 2 or not all(isinstance(edge, int) and edge >= 1 for edge in size):
        raise InputError(f"load_images: size must be (height, width) in pixels, got {size!r}")
    if isinstance(sources, (str, os.PathLike, Sample)):
        raise InputError(f"load_images: sources must be a sequence of images, got {sources!r:.90}")
    if not sources:
        raise InputError("load_images: sources is empty")
    images = _room((len(sources), 3, *size), budget, folder)
    pixels = images.numpy()  # shares memory; each thread fills its own image

    def fill(index: int) -> tuple[tuple[int, int], tuple[str, ...]] | InputError:
        try:
            found = _read(sources[index], size, options)
        except InputError as error:
            return error
        pixels[index] = np.moveaxis(found.pixels, 2, 0)
        if index % _AT_ONCE == 0:
            give_back(images)
        return found.native, found.notes

    results = parallel_map(
        fill, range(len(sources)), threads=threads, progress=progress, description="read images"
    )
    failed = [result for result in results if isinstance(result, InputError)]
    if failed:
        head = f"load_images: {len(failed)} of {len(sources)} images cannot be read:\n  "
        raise failed[0] if len(failed) == 1 else InputError(head + "\n  ".join(map(str, failed)))
    sizes, notes = [], []
    for source, result in zip(sources, results, strict=True):
        if not isinstance(result, InputError):
            sizes.append(result[0])
            notes += [(Path(_path(source)).name, note) for note in result[1]]
    return Loaded(images, tuple(sizes), tuple(notes))


def _room(shape: tuple[int, ...], budget: int | None, folder: Path | None) -> torch.Tensor:
    """A tensor of bytes, in memory or in a file; see :func:`load_inputs`."""
    count = torch.Size(shape).numel()
    if budget is None or count <= budget or sys.platform == "win32":
        return torch.empty(shape, dtype=torch.uint8)
    there = None if folder is None else next(path for path in (folder, *folder.parents) if path.is_dir())
    try:
        return mapped_bytes(count, there).view(shape)
    except OSError as error:
        raise InputError(
            f"load_images: {shape[0]} images need {count:,} bytes in {there or 'the temporary folder'}: "
            f"{error.strerror or error}"
        ) from error


def load_images(
    sources: Sequence[Source],
    size: tuple[int, int],
    options: ReadOptions = AS_STORED,
    *,
    threads: int | None = None,
    progress: bool = False,
) -> torch.Tensor:  # uint8 [N, 3, H, W]
    """The ``images`` of :func:`load_inputs`.

    Raises:
        InputError: as :func:`load_inputs`.
    """
    return load_inputs(sources, size, options, threads=threads, progress=progress).images


def _path(source: Source) -> str | os.PathLike[str]:
    return source.path if isinstance(source, Sample) else source


def _read(source: Source, size: tuple[int, int], options: ReadOptions) -> ImageInput:
    if isinstance(source, Sample):
        options = replace(options, oriented=source.oriented)
    return read_input(_path(source), size, options)
