"""Frozen features, computed once: in memory under a budget, else in a memory-mapped file that vanishes after
use.
"""

from __future__ import annotations

import errno
import itertools
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from torch import Tensor
from tqdm import tqdm

from thfr import distributed
from thfr.backbones import FeatureExtractor
from thfr.data.mapped import give_back
from thfr.errors import InputError

_PREFIX = ".features-"  # of the folder of a mapped file
_open: set[str] = set()  # the names of this process's own


class FeatureStore:
    """Features of all training images as fp16: ``levels``, three tensors [N,C_l,H_l,W_l].

    Half precision halves memory; its relative error of 5e-4 is far below the distances that matter.
    """

    def __init__(self, levels: list[Tensor], file: _File | None = None) -> None:
        self.levels, self._file = levels, file

    def __len__(self) -> int:
        return len(self.levels[0])

    @property
    def mapped(self) -> bool:
        """True if the features are in a file, not in memory."""
        return self._file is not None

    def close(self) -> None:
        """Drop the features and remove the file behind them."""
        self.levels = []
        if self._file is not None:
            self._file.cleanup()

    def gather(
        self,
        indices: Tensor,  # int64 [B]
        device: torch.device,
    ) -> list[Tensor]:  # three fp32 [B,C_l,H_l,W_l]
        """The features of some images."""
        return [level[indices].to(device).float() for level in self.levels]

    def statistics(self, limit: int = 64) -> tuple[list[Tensor], list[Tensor]]:
        """Per-channel mean and standard deviation [C_l] over at most ``limit`` evenly spaced images."""
        spread = torch.linspace(0, len(self) - 1, min(limit, len(self))).round().long()
        means, deviations = [], []
        for level in self.levels:
            values = level[spread].float()
            means.append(values.mean((0, 2, 3)))
            deviations.append(values.std((0, 2, 3)))
        return means, deviations


def feature_batches(
    extractor: FeatureExtractor,
    images: Tensor,  # uint8 [N,3,H,W]
    device: torch.device,
    batch_size: int = 8,
    progress: bool = False,
    description: str = "features",
    turns: bool = False,
) -> Iterator[tuple[int, list[Tensor]]]:
    """Run the extractor over all images: the index of a batch's first image, and its three levels, fp32
    [B,C_l,H_l,W_l].

    Batches are small by default, so that the activations of WideResNet50 take a few hundred megabytes. With
    ``turns`` the processes of ``torchrun`` take turns: each gets its own batches, the same ones whatever
    their number, for a network's result may depend on the size of a batch.

    Raises:
        InputError: a feature is not finite or exceeds the range of fp16.
    """
    starts = range(0, len(images), batch_size)
    if turns:
        starts = starts[distributed.rank() :: distributed.world()]
    for start in tqdm(starts, description, disable=not progress, leave=False):
        with torch.inference_mode():
            levels = extractor(images[start : start + batch_size].to(device).float().div_(255))
            largest = torch.stack([level.abs().amax() for level in levels]).amax()
        if not float(largest) <= torch.finfo(torch.float16).max:
            raise InputError(
                f"compute_features: the backbone {extractor.name} gives features that are not finite "
                "in fp16; are these its weights?"
            )
        yield start, levels
        give_back(images)


def compute_features(
    extractor: FeatureExtractor,
    images: Tensor,  # uint8 [N,3,H,W]
    device: torch.device,
    folder: Path,
    budget: int = 4 << 30,
    batch_size: int = 16,
    progress: bool = False,
    keep: Callable[[list[Tensor]], list[Tensor]] = list,
) -> FeatureStore:
    """Run the extractor over all images once. Above ``budget`` bytes the result goes to a file in ``folder``.
    The processes of ``torchrun`` take turns, and have all of it in the end.

    ``keep``: makes what is kept of a batch's levels, tensors [B,...]; by default the levels themselves.

    Raises:
        InputError: a feature is not finite or exceeds the range of fp16, or the file does not fit on
            the disk; said after the first batch.
    """
    if distributed.is_main():
        _remove_left(folder)
    batches = feature_batches(extractor, images, device, batch_size, progress, turns=True)
    kept_of = ((start, [level.half().cpu() for level in keep(found)]) for start, found in batches)
    done = list(itertools.islice(kept_of, 1))
    shapes = [tuple(level.shape[1:]) for _, levels in done for level in levels]
    shapes = next(found for found in distributed.gather_objects(shapes) if found)  # a process may have none
    levels, file = _allocate([(len(images), *shape) for shape in shapes], folder, budget)
    for start, features in itertools.chain(done, kept_of):
        for kept, level in zip(levels, features, strict=True):
            kept[start : start + len(level)] = level
    if file is None:
        distributed.share_batches(levels, batch_size)
    distributed.barrier()
    return FeatureStore(levels, file)


class _File:
    """A folder for mapped files, that of the main process; it removes it."""

    def __init__(self, folder: Path) -> None:
        self._own: tempfile.TemporaryDirectory[str] | None = None
        if distributed.is_main():
            self._own = tempfile.TemporaryDirectory(prefix=_PREFIX, dir=folder)
            _open.add(Path(self._own.name).name)
        self.name = distributed.gather_objects("" if self._own is None else self._own.name)[0]

    def cleanup(self) -> None:
        if self._own is not None:
            self._own.cleanup()
            _open.discard(Path(self._own.name).name)


def _remove_left(folder: Path) -> None:
    """Remove the mapped files of runs that were killed."""
    for left in folder.glob(f"{_PREFIX}*"):
        if left.name not in _open:
            shutil.rmtree(left)


def _allocate(shapes: list[tuple[int, ...]], folder: Path, budget: int) -> tuple[list[Tensor], _File | None]:
    counts = [torch.Size(shape).numel() for shape in shapes]
    if 2 * sum(counts) <= budget:
        return [torch.empty(shape, dtype=torch.float16) for shape in shapes], None
    file = _File(folder)
    paths = [Path(file.name) / f"level{index}" for index in range(len(shapes))]
    try:
        for path, count in zip(paths, counts, strict=True):
            if distributed.is_main():
                _reserve(path, 2 * count)
    except OSError as error:
        file.cleanup()
        free = shutil.disk_usage(folder).free
        raise InputError(
            f"compute_features: the features of {shapes[0][0]} images need {2 * sum(counts):,} bytes in "
            f"{folder}, where {free:,} are free ({error.strerror}); make room, or take a run folder on "
            "another disk"
        ) from error
    distributed.barrier()  # the files are there
    levels = [
        torch.from_file(str(path), shared=True, size=count, dtype=torch.float16).view(shape)
        for path, count, shape in zip(paths, counts, shapes, strict=True)
    ]
    return levels, file


def _reserve(path: Path, size: int) -> None:
    """A file of ``size`` bytes that the disk really has: a mapped file without them ends in SIGBUS."""
    if size > shutil.disk_usage(path.parent).free:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    with path.open("wb") as file:
        if hasattr(os, "posix_fallocate"):
            os.posix_fallocate(file.fileno(), 0, size)
        else:
            file.truncate(size)
