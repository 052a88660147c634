"""What serving and watching need of a model, and a trained run as one."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import numpy as np

from thfr.errors import InputError
from thfr.methods.base import Detector, Scores
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
    def input_size(self) -> int:
        """Edge in pixels of what the network sees."""

    @property
    def threshold(self) -> Threshold | None:
        """Above which score an image is bad; None if nobody has set one."""

    def score(self, images: Sequence[np.ndarray]) -> Scores:
        """Maps and scores of uint8 RGB images [H,W,3] of any sizes; called by one thread at a time."""


class RunModel:
    """A folder of ``thfr train``."""

    def __init__(self, folder: Path, device: str = "auto") -> None:
        self.folder = folder.resolve()
        self.name = self.folder.name
        self._detector = Detector.load(self.folder, device)
        self.kind: str = self._detector.config.label
        self.input_size = self._detector.size

    @property
    def threshold(self) -> Threshold | None:
        return self._detector.threshold

    def score(self, images: Sequence[np.ndarray]) -> Scores:
        return self._detector.score(images, batch_size=max(1, len(images)))


def open_models(command: str, folders: Sequence[Path], device: str = "auto") -> dict[str, Model]:
    """The models of these run folders, by the folders' names, in their order.

    Raises:
        InputError: a folder without a finished run, or two folders of one name.
    """
    models: dict[str, Model] = {}
    for folder in folders:
        model = RunModel(folder, device)
        if model.name in models:
            raise InputError(f"{command}: expected runs of different names, got {model.name} twice")
        models[model.name] = model
    return models
