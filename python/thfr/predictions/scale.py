"""One colour scale for a whole set of anomaly maps, so that a good image looks calm beside a bad one."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from thfr.errors import InputError
from thfr.io import atomic_write_json
from thfr.plain import Plain
from thfr.runs import files
from thfr.runs.json_file import read_object

_REACH = 2.5  # the strongest colour is so many times as far above calm as the limit is
_PIXELS_A_MAP = 1024  # evenly spread; enough for a median that only colours depend on


@dataclass(frozen=True)
class ColourScale(Plain):
    """Where colours begin, where the outline runs, and where colours end, in units of the anomaly map.

    Below ``low`` nothing is drawn, at ``high`` and above the colour is the strongest; the outline of a
    finding encloses what lies above ``threshold``.
    """

    low: float
    threshold: float
    high: float
    source: str
    """What the scale was taken from, in words."""
    from_good: bool
    """True if good images set the threshold, so that a score above it means: more anomalous than those."""

    def __post_init__(self) -> None:
        values = (self.low, self.threshold, self.high)
        if not all(map(math.isfinite, values)) or not self.low < self.threshold < self.high:
            raise InputError(f"ColourScale: expected finite low < threshold < high, got {values}")

    def relative(self, anomaly_map: np.ndarray) -> np.ndarray:
        """The map [H,W] as float32 from 0 (``low``) to 1 (``high``), cut off at both."""
        scaled = (anomaly_map.astype(np.float32) - self.low) / (self.high - self.low)
        return np.clip(scaled, 0, 1, out=scaled)

    def with_limit(self, threshold: float, source: str) -> ColourScale:
        """The same colours of calm, but with a limit that good images have set, as ``source`` says."""
        low = min(self.low, threshold - max(abs(threshold), 1.0) * 1e-3)
        return ColourScale(low, threshold, low + _REACH * (threshold - low), source, True)

    def save(self, run: Path) -> None:
        """Write the scale into a run folder."""
        atomic_write_json(run / files.SCALE, self.as_dict())

    @classmethod
    def load(cls, run: Path) -> ColourScale | None:
        """A run's scale; None if it has none. InputError if the file is damaged."""
        path = run / files.SCALE
        return cls.from_dict(read_object(path, "ColourScale"), path) if path.is_file() else None


class ScaleBuilder:
    """Collects maps one by one, keeping a few numbers of each, and gives the scale of all of them."""

    def __init__(self, maps: Iterable[np.ndarray] = ()) -> None:
        self._pixels: list[np.ndarray] = []
        self.peaks: list[float] = []
        for anomaly_map in maps:
            self.add(anomaly_map)

    def add(self, anomaly_map: np.ndarray) -> None:
        """Take in a map, float32 [H,W]."""
        flat = anomaly_map.reshape(-1)
        self._pixels.append(flat[:: max(1, flat.size // _PIXELS_A_MAP)].copy())
        self.peaks.append(float(flat.max()))

    def from_good(self, source: str) -> ColourScale:
        """The scale of maps of good images.

        ``low`` is their median pixel, ``threshold`` their highest peak (the 99 % quantile of the peaks where
        there are more than a hundred), ``high`` lies 2.5 times as far above ``low`` as the threshold does.

        Raises:
            InputError: there is no map.
        """
        low, peaks = self._median(), np.array(self.peaks)
        threshold = float(np.quantile(peaks, 0.99, method="higher"))
        return _spread(low, threshold, low + _REACH * (threshold - low), source, True)

    def from_mixed(self, source: str) -> ColourScale:
        """The scale of maps of which nobody knows which are good.

        ``low`` is the median pixel, ``high`` the highest peak, the outline half-way: it marks what stands
        out in this set, be it good or bad.

        Raises:
            InputError: there is no map.
        """
        low, high = self._median(), max(self.peaks, default=0.0)
        return _spread(low, (low + high) / 2, high, source, False)

    def _median(self) -> float:
        if not self._pixels:
            raise InputError("ColourScale: expected at least one anomaly map, got none")
        return float(np.median(np.concatenate(self._pixels)))


def _spread(low: float, threshold: float, high: float, source: str, from_good: bool) -> ColourScale:
    """Widen what a set of constant maps would make empty."""
    if not low < threshold < high:
        step = max(abs(low), 1.0) * 1e-3
        threshold, high = low + step, low + 2 * step
    return ColourScale(low, threshold, high, source, from_good)
