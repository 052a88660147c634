"""Frozen features, computed once: in memory under a budget, else in a memory-mapped file that vanishes after
use.
"""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

import torch
from torch import Tensor
from tqdm import tqdm

from thfr.backbones import FeatureExtractor
from thfr.errors import InputError

_PREFIX = ".features-"  # of the folder of a mapped file


class FeatureStore:
    """Features of all training images as fp16: ``levels``, three tensors [N,C_l,H_l,W_l].

    Half precision halves memory; its relative error of 5e-4 is far below the distances that matter.
    """

    def __init__(self, levels: list[Tensor], file: tempfile.TemporaryDirectory[str] | None = None) -> None:
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

    def gather(self, rows: Tensor, device: torch.device) -> list[Tensor]:
        """fp32 features [B,C_l,H_l,W_l] of the images ``rows``."""
        return [level[rows].to(device).float() for level in self.levels]

    def statistics(self, limit: int = 64) -> tuple[list[Tensor], list[Tensor]]:
        """Per-channel mean and standard deviation [C_l] over at most ``limit`` evenly spaced images."""
        rows = torch.linspace(0, len(self) - 1, min(limit, len(self))).round().long()
        means, deviations = [], []
        for level in self.levels:
            values = level[rows].float()
            means.append(values.mean((0, 2, 3)))
            deviations.append(values.std((0, 2, 3)))
        return means, deviations


def compute_features(
    extractor: FeatureExtractor,
    images: Tensor,  # uint8 [N,3,S,S]
    device: torch.device,
    folder: Path,
    budget: int = 4 << 30,
    batch_size: int = 16,
    progress: bool = False,
) -> FeatureStore:
    """Run the extractor over all images once. Above ``budget`` bytes the result goes to a file in ``folder``.

    Raises InputError if a feature is not finite or exceeds the range of fp16.
    """
    levels: list[Tensor] = []
    file: tempfile.TemporaryDirectory[str] | None = None
    with torch.inference_mode():
        for start in tqdm(range(0, len(images), batch_size), "features", disable=not progress, leave=False):
            batch = images[start : start + batch_size].to(device).float().div_(255)
            features = [level.half().cpu() for level in extractor(batch)]
            if not levels:
                shapes = [(len(images), *level.shape[1:]) for level in features]
                levels, file = _allocate(shapes, folder, budget)
            for kept, level in zip(levels, features, strict=True):
                if not level.isfinite().all():
                    raise InputError(
                        f"compute_features: the backbone {extractor.name} gives features that are not finite "
                        "in fp16; are these its weights?"
                    )
                kept[start : start + len(level)] = level
    return FeatureStore(levels, file)


def _allocate(
    shapes: list[tuple[int, ...]], folder: Path, budget: int
) -> tuple[list[Tensor], tempfile.TemporaryDirectory[str] | None]:
    counts = [torch.Size(shape).numel() for shape in shapes]
    if 2 * sum(counts) <= budget:
        return [torch.empty(shape, dtype=torch.float16) for shape in shapes], None
    for left in folder.glob(f"{_PREFIX}*"):  # by a run that was killed
        shutil.rmtree(left)
    file = tempfile.TemporaryDirectory(prefix=_PREFIX, dir=folder)
    levels = [
        torch.from_file(
            str(Path(file.name) / f"level{index}"), shared=True, size=count, dtype=torch.float16
        ).view(shape)
        for index, (count, shape) in enumerate(zip(counts, shapes, strict=True))
    ]
    return levels, file
