"""The gate: an exported model must say what the run says."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from thfr.deploy.export.images import PLANTED_COUNT, planted
from thfr.deploy.exported import ExportedModel
from thfr.errors import InputError
from thfr.io import ReadOptions, read_image
from thfr.methods.base import Detector

SCORE_LIMIT, MAP_LIMIT = 1e-4, 1e-3
"""Largest difference allowed, as a share of the largest absolute score, or map value, of the run."""
LIMITS = {
    "fp32": (SCORE_LIMIT, MAP_LIMIT, 0.0, 0.5),
    "bf16": (0.1, 0.2, 0.1, 0.5),
    "int8": (0.1, 0.2, 0.1, 0.5),
}
"""Precision -> those two, the share of the images whose verdict may change, and the noise: the root mean
square of the differences over good images, in standard deviations of their scores. 0.5 widens the spread of
good products' scores, by which the threshold was chosen, by an eighth.
"""
_BATCH = 8  # as in calibration, so that the run's scores are those that set its threshold


@dataclass(frozen=True)
class Parity:
    """What the comparison found. Differences are absolute, of maps at native size."""

    images: int
    planted: int
    source: str
    score_difference: float
    map_difference: float
    largest_score: float
    largest_map: float
    score_limit: float
    map_limit: float
    changed: tuple[str, ...]
    """Images whose verdict is another."""
    changed_limit: int
    """How many may be."""
    bad: int
    """Images that the run calls bad; the others are good to it."""
    noise: float | None
    """See :data:`LIMITS`; None where the good images do not differ in score, or are less than two."""
    noise_limit: float

    @property
    def passed(self) -> bool:
        return not self.failures()

    def failures(self) -> list[str]:
        """Why the gate fails, a line each."""
        found = []
        for what, difference, limit in (
            ("score", self.score_difference, self.score_limit),
            ("map", self.map_difference, self.map_limit),
        ):
            if not difference <= limit:
                found.append(
                    f"largest difference of a {what}: expected at most {limit:.3g}, got {difference:.3g}"
                )
        if self.noise is not None and not self.noise <= self.noise_limit:
            found.append(
                f"noise in good images' scores: expected at most {self.noise_limit:.3g} of their standard "
                f"deviation, got {self.noise:.3g}"
            )
        if len(self.changed) > self.changed_limit:
            listed = ", ".join(self.changed[:8])
            most = f"at most {self.changed_limit}" if self.changed_limit else "none"
            found.append(f"verdicts: expected {most} to change, got {len(self.changed)}: {listed}")
        return found

    def as_dict(self) -> dict[str, Any]:
        """For ``parity.json``."""
        return {**asdict(self), "passed": self.passed}


def compare(
    detector: Detector[Any],
    model: ExportedModel,
    paths: Sequence[Path],
    source: str,
    precision: str = "fp32",
) -> Parity:
    """Score good images and planted anomalies with both, from the decoded image to the map at native size.
    :data:`LIMITS` says how close a model of that precision must be.

    Raises:
        InputError: the detector has no threshold, or an image cannot be read.
    """
    threshold = detector.threshold
    if threshold is None:
        raise InputError("export: the run has no threshold to compare verdicts by")
    score_limit, map_limit, changed_share, noise_limit = LIMITS[precision]
    score_difference = map_difference = largest_score = largest_map = 0.0
    changed: list[str] = []
    scores: list[tuple[np.ndarray, np.ndarray]] = []
    bad = 0
    for names, images in _batches(paths, detector.inputs.options):
        ours, theirs = detector.score(images, _BATCH), model.score(images, _BATCH)
        scores.append((ours.scores, theirs.scores))
        largest_score = max(largest_score, float(np.abs(ours.scores).max()))
        score_difference = _larger(score_difference, ours.scores, theirs.scores)
        for mine, other in zip(ours.maps, theirs.maps, strict=True):
            largest_map = max(largest_map, float(np.abs(mine).max()))
            map_difference = _larger(map_difference, mine, other)
        verdicts = [threshold.verdict(score) for score in ours.scores.tolist()]
        bad += verdicts.count("bad")
        both = zip(names, verdicts, theirs.verdicts, strict=True)
        changed += [name for name, mine, other in both if mine != other]
    return Parity(
        len(paths),
        PLANTED_COUNT,
        source,
        score_difference,
        map_difference,
        largest_score,
        largest_map,
        score_limit * largest_score,
        map_limit * largest_map,
        tuple(changed),
        int(changed_share * (len(paths) + PLANTED_COUNT)),
        bad,
        _noise(*(np.concatenate(some)[: len(paths)] for some in zip(*scores, strict=True))),
        noise_limit,
    )


def _noise(
    ours: np.ndarray,  # float32 [N], of good images
    theirs: np.ndarray,  # the same
) -> float | None:
    """See :data:`LIMITS`."""
    spread = float(ours.std(ddof=1)) if len(ours) > 1 else 0.0
    return float(np.sqrt(np.square(theirs - ours).mean())) / spread if spread else None


def _batches(paths: Sequence[Path], options: ReadOptions) -> Iterator[tuple[list[str], list[np.ndarray]]]:
    """Names and images: the good ones as they are read, then the planted ones."""
    for start in range(0, len(paths), _BATCH):
        some = paths[start : start + _BATCH]
        yield [path.name for path in some], [read_image(path, options) for path in some]
    made = planted(paths, options)
    for start in range(0, len(made), _BATCH):
        images = made[start : start + _BATCH]
        yield [f"planted {start + number}" for number in range(len(images))], images


def _larger(so_far: float, ours: np.ndarray, theirs: np.ndarray) -> float:
    """The largest difference; NaN, which passes no gate, where either holds one."""
    difference = float(np.abs(ours - theirs).max())
    return difference if np.isnan(difference) else max(so_far, difference)
