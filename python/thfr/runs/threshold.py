"""The decision threshold on image scores, and its false-alarm rate."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from thfr.errors import InputError
from thfr.io import atomic_write_json
from thfr.plain import Plain
from thfr.runs import files
from thfr.runs.digest import combined, file_digests
from thfr.runs.json_file import read_object

DEFAULT_RATE = 0.05

Verdict = Literal["good", "bad"]

_RUN = "run"  # the key, in the file, of the digest


@dataclass(frozen=True)
class Threshold(Plain):
    """A limit on the image score, set by scores of good images that training has not seen.

    It is one of those scores. A new good image of the same kind lies above the j-th lowest of n such scores
    with the chance (n + 1 - j) / (n + 1), whatever the scores' distribution (split conformal prediction:
    Papadopoulos et al., 2002; Vovk et al., 2005), so few images allow no small rate.
    """

    value: float
    """A score above it is called bad."""
    wanted_rate: float
    """Share of good products that may be called bad."""
    expected_rate: float
    """The share to expect: at most ``wanted_rate``, or where that takes more images, 1 / (n + 1)."""
    rate_bound: float
    """The true share is no larger with 95 % confidence (the quantile of Beta(n + 1 - j, j))."""
    scores: tuple[float, ...]
    """Of the good images, ascending."""
    source: str
    """Which good images, in words."""

    @classmethod
    def from_scores(cls, scores: Sequence[float], rate: float, source: str) -> Threshold:
        """The lowest of ``scores`` above which the expected share of good images is at most ``rate``.

        Raises:
            InputError: no score, one that is not finite, or a rate outside of (0, 1).
        """
        if not 0 < rate < 1:
            raise InputError(f"Threshold: rate: expected a share in (0, 1), got {rate}")
        from scipy.stats import beta  # takes longer to import than all else that scoring needs

        ordered, n = sorted(map(float, scores)), len(scores)
        if n == 0 or not all(map(math.isfinite, ordered)):
            raise InputError(f"Threshold: scores: expected finite scores of good images, got {ordered}")
        # 1e-9: (n + 1) * (1 - rate) may miss a whole number by rounding
        j = min(max(math.ceil((n + 1) * (1 - rate) - 1e-9), 1), n)
        bound = float(beta.ppf(0.95, n + 1 - j, j))
        return cls(ordered[j - 1], rate, (n + 1 - j) / (n + 1), bound, tuple(ordered), source)

    def verdict(self, score: float) -> Verdict:
        """``bad`` above the limit, else ``good``."""
        return "bad" if score > self.value else "good"

    def in_words(self) -> str:
        """One line for people."""
        short = " (more good images would allow the rate asked for)" if self.falls_short else ""
        return (
            f"bad above {self.value:.4g}: {100 * self.expected_rate:.3g} % of good products expected above "
            f"it, at most {100 * self.rate_bound:.3g} % with 95 % confidence; from {len(self.scores)} "
            f"{self.source}{short}"
        )

    def in_short(self) -> str:
        """What the limit comes from, and the share of good products to expect above it."""
        return (
            f"the scores of {len(self.scores)} {self.source} ({100 * self.expected_rate:.3g} % of good "
            "products are expected above it)"
        )

    @property
    def falls_short(self) -> bool:
        """Whether there were too few images for the rate asked for."""
        return self.expected_rate > self.wanted_rate

    def save(self, run: Path) -> None:
        """Write ``threshold.json`` beside the model, with the digest of the run that it belongs to."""
        atomic_write_json(run / files.THRESHOLD, {**self.as_dict(), _RUN: combined(file_digests(run))})

    @classmethod
    def load(cls, run: Path, digest: str | None = None) -> Threshold | None:
        """The run's threshold; None if it has none.

        Args:
            digest: of the run's files (:func:`thfr.runs.digest.check_files`); None: not checked.

        Raises:
            InputError: the file is damaged, or of another run than that of ``digest``.
        """
        path = run / files.THRESHOLD
        if not path.is_file():
            return None
        held = read_object(path, "Threshold.load")
        belongs = held.pop(_RUN, digest)  # not in older files
        remade = cls.from_stored(held, path)
        if digest is not None and belongs != digest:
            raise InputError(
                f"Threshold.load: {path} was set for another model; remove it and run thfr calibrate again"
            )
        return remade

    @classmethod
    def from_stored(cls, held: Any, path: Path) -> Threshold:
        """The inverse of :meth:`as_dict`, of what ``path`` holds.

        Raises:
            InputError: it is damaged.
        """
        try:
            remade = cls.from_scores(held["scores"], held["wanted_rate"], held["source"])
            fits = remade.as_dict() == {**held, "scores": tuple(held["scores"])}
        except (InputError, ValueError, KeyError, TypeError, OverflowError) as error:
            raise InputError(f"Threshold.load: {path} cannot be read: {error}") from error
        if not fits:
            raise InputError(f"Threshold.load: {path} does not fit its own scores; run thfr calibrate again")
        return remade
