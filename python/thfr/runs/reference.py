"""What the features of good images look like on average: ``reference.json``, by which drift is told."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from thfr.errors import InputError
from thfr.io import atomic_write_json
from thfr.runs import files
from thfr.runs.json_file import read_object

_FEWEST = 3  # images of which a spread can be told with one left out


@dataclass(frozen=True)
class FeatureReference:
    """Mean and spread, over good images that training has not seen, of each image's mean feature."""

    mean: np.ndarray  # float64 [C]
    spread: np.ndarray  # float64 [C], above 0
    own_distances: tuple[float, ...]
    """Of each of those images to the others."""

    @classmethod
    def of(
        cls,
        means: np.ndarray,  # float32 [N,C]
    ) -> FeatureReference | None:
        """The reference of these images; None of fewer than three."""
        if len(means) < _FEWEST:
            return None
        means = np.asarray(means, np.float64)
        own = []
        for number in range(len(means)):  # left out, for a new image is not among the others either
            others = cls(*_moments(np.delete(means, number, 0)), ())
            own.append(round(float(others.distances(means[number : number + 1])[0]), 6))
        return cls(*_moments(means), tuple(sorted(own)))

    def distances(
        self,
        means: np.ndarray,  # float [B,C]
    ) -> np.ndarray:  # float64 [B]
        """How far images are from the mean, in spreads: root mean square over the channels."""
        return np.sqrt((((means - self.mean) / self.spread) ** 2).mean(1))

    def save(self, run: Path) -> None:
        """Write ``reference.json``."""
        rounded = {name: [float(f"{value:.6g}") for value in getattr(self, name)] for name in ("mean", "spread")}
        atomic_write_json(run / files.REFERENCE, {**rounded, "own_distances": list(self.own_distances)})

    @classmethod
    def load(cls, run: Path) -> FeatureReference | None:
        """A run's reference; None if it has none.

        Raises:
            InputError: the file is damaged.
        """
        path = run / files.REFERENCE
        if not path.is_file():
            return None
        held = read_object(path, "FeatureReference.load")
        try:
            mean, spread = (np.asarray(held[name], np.float64) for name in ("mean", "spread"))
            own = tuple(float(value) for value in held["own_distances"])
            if mean.ndim != 1 or mean.shape != spread.shape or not (spread > 0).all() or not np.isfinite(own).all():
                raise ValueError("expected numbers for each channel")
            return cls(mean, spread, own)
        except (KeyError, TypeError, ValueError) as error:
            raise InputError(f"FeatureReference.load: {path} is damaged: {error}") from error


def _moments(means: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    spread = means.std(0, ddof=1)
    return means.mean(0), np.maximum(spread, 1e-3 * max(float(spread.mean()), 1e-9))
