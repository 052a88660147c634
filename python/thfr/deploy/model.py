"""What serving and watching need of a model: a trained run, or an exported one."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import numpy as np

from thfr.deploy.drift import DriftMonitor
from thfr.deploy.exported import open_detector
from thfr.errors import InputError
from thfr.io import ReadOptions
from thfr.methods.base import Scores
from thfr.methods.common.hooks import image_means, observed_features
from thfr.runs.threshold import Threshold


class Model(Protocol):
    """Anything that scores images: a run, or an exported model."""

    @property
    def name(self) -> str:
        """By which it is asked for."""

    @property
    def kind(self) -> str:
        """Method and variant, in words."""

    @property
    def input_size(self) -> tuple[int, int]:
        """(height, width) in pixels of a prepared image."""

    @property
    def read_options(self) -> ReadOptions:
        """How its images are read: the range of their pixel values, and whether they are turned upright."""

    @property
    def threshold(self) -> Threshold | None:
        """Above which score an image is bad; None if nobody has set one."""

    @property
    def drift(self) -> DriftMonitor:
        """Of the images that it has scored."""

    def score(self, images: Sequence[np.ndarray]) -> Scores:
        """Maps and scores of uint8 RGB images [H,W,3] of any sizes; called by one thread at a time."""


class FolderModel:
    """A folder of ``thfr train`` or ``thfr export``."""

    def __init__(self, folder: Path, device: str = "auto") -> None:
        self.folder = folder.resolve()
        self.name = self.folder.name
        self._detector = open_detector(self.folder, device)
        self._detector.require_one_category(f"load: {self.folder}")
        self.kind: str = self._detector.label
        self.input_size: tuple[int, int] = self._detector.size
        self.read_options: ReadOptions = self._detector.inputs.options
        threshold = self.threshold
        self.drift = DriftMonitor(
            None if threshold is None else threshold.scores, getattr(self._detector, "reference", None)
        )

    @property
    def threshold(self) -> Threshold | None:
        threshold: Threshold | None = self._detector.threshold
        return threshold

    def check(self) -> None:
        """Score a grey image, which does not count for drift.

        Raises:
            InputError: the score is not a number. Whatever else the model fails with.
        """
        score = float(self._detector.score([np.full((*self.input_size, 3), 128, np.uint8)]).scores[0])
        if not math.isfinite(score):
            raise InputError(f"{self.name} gives a grey image the score {score}")

    def score(self, images: Sequence[np.ndarray]) -> Scores:
        with observed_features() as means:
            found = self._detector.score(images, batch_size=max(1, len(images)))
        tiles = self._detector.config.model.tile_count if means else 1
        self.drift.add(found.scores, image_means(means, tiles))
        return Scores(found.maps, found.scores)


def named(command: str, folders: Sequence[Path]) -> dict[str, Path]:
    """Folders of models by the names that they are asked for: the folders' own, and a link's own, since that
    may point elsewhere tomorrow.

    Raises:
        InputError: two of one name.
    """
    found: dict[str, Path] = {}
    for folder in folders:
        name = (folder.resolve() if folder.name in ("", "..") else folder).name
        if name in found:
            raise InputError(f"{command}: expected runs of different names, got {name} twice")
        found[name] = folder
    return found
