"""Scoring images in memory: what runs and exported models have in common."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from thfr.errors import InputError
from thfr.io import framed

if TYPE_CHECKING:
    from thfr.predictions.scale import ColourScale
    from thfr.runs.inputs import RunInputs
    from thfr.runs.threshold import Threshold


class ArrayScorer(ABC):
    """Scores RGB images [H,W,3] in memory by :meth:`score_read`."""

    speaker: ClassVar[str]
    """With which errors begin."""
    inputs: RunInputs
    """How images are read."""
    size: tuple[int, int]
    """(height, width) of a prepared image in pixels; what the network sees is smaller where it is tiled."""
    threshold: Threshold | None
    scale: ColourScale | None
    """Of good images' maps."""
    digest: str | None
    """Of the files that it was read from."""
    precision: str

    @abstractmethod
    def score_read(
        self,
        pixels: np.ndarray,  # uint8 [B,H,W,3]: what thfr.io.read_input gives, at input size
        sizes: Sequence[tuple[int, int]],
    ) -> Iterator[tuple[np.ndarray, float]]:
        """For each image its map at ``sizes``, (height, width), one at a time, and its score."""

    def _pixels(self, images: Sequence[np.ndarray]) -> Iterator[np.ndarray]:
        """Each image as it is resized; InputError for no image, or one of another shape or number type."""
        if len(images) == 0:
            raise InputError(f"{self.speaker}: images is empty")
        for index, image in enumerate(images):
            try:
                yield self.inputs.pixels_of(image)
            except ValueError as error:
                raise InputError(
                    f"{self.speaker}: images[{index}] must be a uint8 array [H,W,3], {error}"
                ) from error

    def framed(self, images: Sequence[np.ndarray]) -> np.ndarray:  # uint8 [B,H,W,3]
        """Images at the run's size as in training, anti-aliased bilinear, stretched or letterboxed, blank
        outside of its region of interest.

        uint8 is taken as it is; a run on deeper images (:class:`thfr.runs.inputs.RunInputs`) also takes their
        numbers and scales them by its range.

        Raises:
            InputError: no image, or one of another shape or number type.
        """
        found = np.empty((len(images), *self.size, 3), dtype=np.uint8)
        for index, pixels in enumerate(self._pixels(images)):
            found[index] = framed(pixels, self.size, self.inputs.options)
        return found

    def _scored(self, images: Sequence[np.ndarray], batch_size: int) -> tuple[list[np.ndarray], np.ndarray]:
        """Maps, float32 [H_i,W_i] at each image's own size, and scores, float32 [B]."""
        pixels, maps, scores = self.framed(images), list[np.ndarray](), list[float]()
        for start in range(0, len(pixels), batch_size):
            some = slice(start, start + batch_size)
            sizes = [(image.shape[0], image.shape[1]) for image in images[some]]
            for anomaly_map, score in self.score_read(pixels[some], sizes):
                maps.append(anomaly_map)
                scores.append(score)
        return maps, np.array(scores, dtype=np.float32)
