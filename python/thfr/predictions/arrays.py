"""Scoring images in memory: what runs and exported models have in common."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, NamedTuple

import numpy as np

from thfr.errors import InputError
from thfr.io import framed

if TYPE_CHECKING:
    from thfr.predictions.scale import ColourScale
    from thfr.runs.categories import Categories
    from thfr.runs.inputs import RunInputs
    from thfr.runs.threshold import Threshold


class Answer(NamedTuple):
    """What a scorer says of an image."""

    map: np.ndarray
    """float32 [H,W], at the image's own size."""
    score: float
    category: str | None = None
    """That the image was found to be of; None of a run on one category."""


@dataclass(frozen=True)
class Scores:
    """What :meth:`thfr.methods.Detector.score` gives: anomaly maps at each image's own size, and one score an
    image.
    """

    maps: list[np.ndarray]  # float32 [H_i,W_i]
    scores: np.ndarray  # float32 [B]
    categories: list[str] | None = None
    """That the images were found to be of; None of a run on one category."""

    @classmethod
    def of(cls, answers: Sequence[Answer]) -> Scores:
        """The answers of one scorer."""
        found = [one.category for one in answers if one.category is not None]
        scores = np.array([one.score for one in answers], dtype=np.float32)
        return cls([one.map for one in answers], scores, found or None)


class ArrayScorer(ABC):
    """Scores RGB images [H,W,3] in memory by :meth:`score_read`."""

    speaker: ClassVar[str]
    """With which errors begin."""
    inputs: RunInputs
    """How images are read."""
    size: tuple[int, int]
    """(height, width) of a prepared image in pixels; what the network sees is smaller where it is tiled."""
    threshold: Threshold | None
    """None of a run on several categories, of which each has its own: :meth:`threshold_of`."""
    categories: Categories | None = None
    """Of a run on several."""
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
    ) -> Iterator[Answer]:
        """For each image the answer, its map at ``sizes``, (height, width), one at a time."""

    def threshold_of(self, category: str | None) -> Threshold | None:
        """The threshold by which images found to be of that category are judged."""
        return self.threshold if self.categories is None else self.categories.threshold_of(category)

    @property
    def thresholds(self) -> Mapping[str, Threshold]:
        """Of a run on several categories: category -> threshold."""
        return {} if self.categories is None else self.categories.thresholds

    def require_one_category(self, command: str) -> None:
        """
        Raises:
            InputError: the run is on several categories, and the command knows one threshold only.
        """
        if self.categories is not None:
            raise InputError(
                f"{command}: expected a run on one category, got one on {', '.join(self.categories.names)}; "
                "such a run is for predict, evaluate and calibrate"
            )

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

    def _answers(self, images: Sequence[np.ndarray], batch_size: int) -> list[Answer]:
        """The answer of each image, the map at its own size."""
        pixels, answers = self.framed(images), list[Answer]()
        for start in range(0, len(pixels), batch_size):
            some = slice(start, start + batch_size)
            sizes = [(image.shape[0], image.shape[1]) for image in images[some]]
            answers += self.score_read(pixels[some], sizes)
        return answers
