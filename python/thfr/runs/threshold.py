"""From which image score on a product is called bad, and how often that will be wrong."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from thfr.runs import files
from pathlib import Path
from typing import Any, Literal

from scipy.stats import beta

from thfr.errors import InputError
from thfr.io import atomic_write_json

DEFAULT_RATE = 0.05

Verdict = Literal["good", "bad"]


@dataclass(frozen=True)
class Threshold:
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

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)

    def save(self, run: Path) -> None:
        """Write ``threshold.json`` beside the model, whole or not at all."""
        atomic_write_json(run / files.THRESHOLD, self.as_dict())

    @classmethod
    def load(cls, run: Path) -> Threshold | None:
        """The run's threshold; None if it has none. InputError if the file is damaged."""
        path = run / files.THRESHOLD
        if not path.is_file():
            return None
        try:
            held = json.loads(path.read_text(encoding="utf-8"))
            remade = cls.from_scores(held["scores"], held["wanted_rate"], held["source"])
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise InputError(f"Threshold.load: {path} cannot be read: {error}") from error
        if remade.as_dict() != {**held, "scores": tuple(held["scores"])}:
            raise InputError(f"Threshold.load: {path} does not fit its own scores; run thfr calibrate again")
        return remade
