"""Drift: do the last images still look like the good ones that the run was calibrated on?

The population stability index (PSI) compares two histograms, p of the reference and q of the last images:
the sum over the bins of (q - p) ln(q / p). Common reading: below 0.1 stable, above 0.25 drifted. Of n and m
numbers of one distribution in k bins it is about (1/n + 1/m) times a chi-squared number of k - 1 degrees of
freedom (Yurdakul and Naranjo, Statistical properties of the population stability index, 2020), so that few
images give a large index by chance; what chance may give is told beside it.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from scipy.stats import chi2

from thfr.runs.reference import FeatureReference

WINDOW = 200
"""Last images that are compared."""
FEWEST = 20
"""Images below which nothing is said."""
_STABLE, _DRIFTED = 0.1, 0.25
_MOST_BINS, _IN_A_BIN = 10, 5
Level = Literal["stable", "moderate", "drifted"]


def stability_index(reference: Sequence[float], latest: Sequence[float]) -> tuple[float, float]:
    """The PSI of the latest numbers against the reference, and what 99 of 100 windows without drift stay
    below.

    Bins hold equally many of the reference, at least five each; half a number is added to every bin, so that
    an empty one is finite.
    """
    bins = min(_MOST_BINS, max(2, len(reference) // _IN_A_BIN))
    edges = np.quantile(np.asarray(reference, np.float64), np.linspace(0, 1, bins + 1)[1:-1])
    shares = []
    for values in (reference, latest):
        found = np.searchsorted(edges, np.asarray(values, np.float64), side="left")
        counts = np.bincount(found, minlength=bins) + 0.5
        shares.append(counts / counts.sum())
    expected, actual = shares
    index = float(((actual - expected) * np.log(actual / expected)).sum())
    chance = float(chi2.ppf(0.99, bins - 1)) * (1 / len(reference) + 1 / len(latest))
    return index, chance


class DriftMonitor:
    """Keeps the scores and features of the last images of one model. Threads may share it.

    Args:
        scores: of the good images that the threshold was set by; None: there is no threshold.
        features: of those images; None: the run does not have it.
    """

    def __init__(
        self,
        scores: Sequence[float] | None,
        features: FeatureReference | None,
        window: int = WINDOW,
    ) -> None:
        self._reference, self._features = scores, features
        self._scores: deque[float] = deque(maxlen=window)
        self._distances: deque[float] = deque(maxlen=window)
        self._lock = threading.Lock()

    def add(
        self,
        scores: np.ndarray,  # float32 [B]
        means: np.ndarray | None,  # float32 [B,C]
    ) -> None:
        """Take the images that were scored last."""
        distances = []
        if self._features is not None and means is not None:
            distances = self._features.distances(means).tolist()
        with self._lock:
            self._scores.extend(float(score) for score in scores)
            self._distances.extend(distances)

    def report(self) -> dict[str, Any]:
        """``images``: that are compared; ``scores`` and ``features``: ``psi``, ``chance`` and ``level``, or
        None where there is no reference or too few images.
        """
        with self._lock:
            scores, distances = list(self._scores), list(self._distances)
        reference = None if self._features is None else self._features.own_distances
        return {
            "images": len(scores),
            "scores": _compared(self._reference, scores),
            "features": _compared(reference, distances),
        }


def _compared(reference: Sequence[float] | None, latest: Sequence[float]) -> dict[str, Any] | None:
    if reference is None or len(reference) < 2 or len(latest) < FEWEST:
        return None
    index, chance = stability_index(reference, latest)
    level: Level = "stable"
    if index > max(_STABLE, chance):
        level = "drifted" if index > _DRIFTED else "moderate"
    return {"psi": round(index, 4), "chance": round(chance, 4), "level": level}


def in_words(report: dict[str, Any]) -> str:
    """One line for people."""
    if report["scores"] is None and report["features"] is None:
        return f"drift: nothing to say yet ({report['images']} images, needs {FEWEST}, and a reference)"
    parts = [
        f"{name} {found['level']} (PSI {found['psi']:.2f}, by chance up to {found['chance']:.2f})"
        for name in ("scores", "features")
        if (found := report[name]) is not None
    ]
    return f"drift of the last {report['images']} images: {', '.join(parts)}"
