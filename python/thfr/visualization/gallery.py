"""What a report shows: results by kind, the ones to look at first, and their pictures."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from thfr.data.base import GOOD
from thfr.io import AS_STORED, ReadOptions, read_image, read_map
from thfr.predictions.findings import Finding
from thfr.predictions.scale import ColourScale
from thfr.visualization.curves import OverlapCurves
from thfr.visualization.overlay import outlined, overlay

Panels = tuple[tuple[str, np.ndarray], ...]
"""Pictures, uint8 [H,W,3], with the words under them."""

UNKNOWN = "images"
"""The kind of images of which nobody said whether they are good."""


@dataclass(frozen=True)
class Entry:
    """One image in a report. Pictures are read when they are drawn, one image at a time."""

    name: str
    kind: str
    score: float
    image: Path
    map: Path
    truth: Callable[[], np.ndarray] | None = None  # gives bool [H,W]
    template: Path | None = None
    """The good training image that the detector compared it with."""
    restored: Callable[[], np.ndarray] | None = None
    """Draws the features that the detector restored: uint8 [h,w,3], to be stretched to the image."""
    defects: tuple[str, ...] = ()
    """The names of the defects in it, where they are finer than the kind."""
    options: ReadOptions = AS_STORED
    """How the run reads the image."""
    panels: Panels = ()
    """Its pictures, where they have been drawn before."""
    findings: Sequence[Finding] = ()
    """Parts of its map above the threshold, the highest peak first; drawn and listed."""
    size: tuple[int, int] = (1, 1)
    """Its height and width, which findings are in pixels of."""


@dataclass(frozen=True)
class Report:
    """What :func:`write_report` and :func:`write_contact_sheet` show."""

    title: str
    entries: Sequence[Entry]
    scale: ColourScale
    metrics: Mapping[str, Any] | None = None
    """What :func:`thfr.evaluation.evaluate_maps` returned, if the truth is known."""
    subtitle: str = ""
    per_kind: int | None = None
    """Images shown of each kind at most; None: all."""
    metadata: Mapping[str, str] = field(default_factory=dict)
    """Further lines for the end, name -> text: what was trained, on what, for how long."""
    curves: Sequence[OverlapCurves] = ()
    """PRO and sPRO curves, if the truth is known."""

    @property
    def worst_shown(self) -> int:
        """How many of the images shown of a kind are its worst, where not all are shown."""
        return ((self.per_kind or 0) + 1) // 2

    @property
    def kinds(self) -> list[str]:
        """Good first, then the others by name."""
        return sorted({entry.kind for entry in self.entries}, key=lambda kind: (kind != GOOD, kind))

    def of(self, kind: str) -> list[Entry]:
        """All entries of a kind, the worst first: false alarms of the good, misses of the anomalous."""
        found = [entry for entry in self.entries if entry.kind == kind]
        return sorted(found, key=lambda entry: entry.score, reverse=kind in (GOOD, UNKNOWN))

    def shown(self, kind: str) -> list[Entry]:
        """At most ``per_kind`` entries: half are the worst, the others spread evenly over the rest."""
        entries = self.of(kind)
        if self.per_kind is None or kind == UNKNOWN or len(entries) <= self.per_kind:
            return entries[: self.per_kind]
        worst = self.worst_shown
        rest = np.linspace(worst, len(entries) - 1, self.per_kind - worst).round().astype(int)
        return entries[:worst] + [entries[index] for index in rest]

    def surprise(self, entry: Entry) -> float:
        """How far the score lies on the wrong side of the limit: a miss's below it, a false alarm's above;
        negative on the right side. Of an image of unknown kind how far it lies above.
        """
        above = entry.score - self.scale.threshold
        return above if entry.kind in (GOOD, UNKNOWN) else -above

    def mistakes(self, most: int) -> list[Entry]:
        """At most ``most`` missed defects and as many false alarms, the worst first; none without a limit."""
        found: list[Entry] = []
        for verdict in ("missed", "false alarm"):
            wrong = [entry for entry in self.entries if self.verdict(entry) == verdict]
            found += sorted(wrong, key=self.surprise, reverse=True)[:most]
        return found

    def verdict(self, entry: Entry) -> str:
        """``found``, ``missed``, ``calm``, ``false alarm``, or for an image of unknown kind ``alarm`` or
        ``calm``.

        Empty if no good image set the threshold.
        """
        if not self.scale.from_good:
            return ""
        alarm = entry.score > self.scale.threshold
        if entry.kind == UNKNOWN:
            return "alarm" if alarm else "calm"
        if entry.kind == GOOD:
            return "false alarm" if alarm else "calm"
        return "found" if alarm else "missed"


def pictures(entry: Entry, scale: ColourScale, edge: int) -> Panels:
    """Image, template, restored features, heat map and ground truth, as far as they are there, none larger
    than ``edge`` pixels.

    Raises:
        InputError: the image, its map, template or mask cannot be read.
    """
    panels = list(entry.panels)
    if not panels:
        image = read_image(entry.image, entry.options)
        panels = [("image", image)]
        if entry.template is not None:
            panels.append(("nearest good", read_image(entry.template, entry.options)))
        if entry.restored is not None:
            panels.append(("restored", stretched(entry.restored(), image.shape[:2])))
        panels.append(("anomaly map", overlay(image, read_map(entry.map), scale)))
        if entry.truth is not None:
            panels.append(("ground truth", outlined(image, entry.truth())))
    return tuple((label, reduced(panel, edge)) for label, panel in panels)


def stretched(picture: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """The picture resized to ``size`` (height, width), bicubic: a square one to its image's proportions."""
    return np.asarray(Image.fromarray(picture).resize(size[::-1], Image.Resampling.BICUBIC))


def reduced(picture: np.ndarray, edge: int) -> np.ndarray:
    """The picture with its longer side brought down to ``edge`` pixels, anti-aliased; never enlarged."""
    small = Image.fromarray(picture)
    small.thumbnail((edge, edge), Image.Resampling.LANCZOS)
    return np.asarray(small)
