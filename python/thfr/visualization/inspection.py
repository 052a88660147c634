"""New images, scored and drawn: what ``thfr predict`` does."""

from __future__ import annotations

import heapq
import os
import threading
from pathlib import Path

import numpy as np

from thfr.data import Dataset
from thfr.inference import predict
from thfr.inference.scoring import item_options
from thfr.io import storable
from thfr.methods import Detector
from thfr.predictions import files
from thfr.predictions.judging import Rules
from thfr.predictions.scale import ColourScale
from thfr.predictions.tables import ImageResult, Results, limited
from thfr.visualization.gallery import UNKNOWN, Entry, Panels, Report, reduced
from thfr.visualization.overlay import overlay
from thfr.visualization.report import EDGE, write_report

_REPORTED = 48  # images in a report, those with the highest scores


def inspect(
    run: str | os.PathLike[str] | Detector,
    source: str | os.PathLike[str] | Dataset,
    out: str | os.PathLike[str],
    *,
    rules: Rules | None = None,
    device: str = "auto",
    batch_size: int = 8,
    progress: bool = False,
) -> Results:
    """:func:`thfr.inference.predict` with a picture of each image, the map over it and, where it is known,
    the outline of the ground truth; for an image or a folder also findings, and ``report.html`` to look at
    (of a run on several categories ``reports/NAME.html``, one for each that was found).

    Arguments and errors are those of :func:`thfr.inference.predict`; without ``rules`` all findings count.
    """
    detector = Detector.load(Path(run), device) if isinstance(run, (str, os.PathLike)) else run
    highest = _Highest(_REPORTED)
    how = rules or Rules()
    results = predict(
        detector, source, out, draw=highest, rules=how, batch_size=batch_size, progress=progress
    )
    if not isinstance(source, Dataset):
        title = f"Inspection of {storable(Path(source).name)}"
        for category in sorted({image.category for image in results.images}, key=str):
            entries = [
                Entry(
                    name=image.item.name,
                    kind=UNKNOWN,
                    score=image.score,
                    image=image.item.path,
                    map=results.out / image.item.map,
                    options=item_options(detector, image.item),
                    panels=highest.panels.get(image.item.name, ()),
                    findings=image.findings or (),
                    size=(image.height, image.width),
                )
                for image in results.images
                if image.category == category
            ]
            scale, name = results.scale, files.REPORT
            if category is not None:  # each category has its own limit, and so its own report
                scale, name = limited(scale, detector.threshold_of(category)), files.report_of(category)
            whose = title if category is None else f"{title}: {category}"
            write_report(results.out / name, Report(whose, entries, scale, per_kind=_REPORTED))
    return results


class _Highest:
    """Draws overlays, and keeps those of the highest scores, reduced, so that the report reads no image
    again.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._lock = threading.Lock()
        self._kept: list[tuple[float, str]] = []
        self.panels: dict[str, Panels] = {}

    def __call__(
        self,
        result: ImageResult,
        image: np.ndarray,
        anomaly_map: np.ndarray,
        scale: ColourScale,
        truth: np.ndarray | None,
    ) -> np.ndarray:
        picture = overlay(image, anomaly_map, scale, truth)
        name = result.item.name
        with self._lock:
            heapq.heappush(self._kept, (result.score, name))
            dropped = heapq.heappop(self._kept)[1] if len(self._kept) > self._most else None
            self.panels.pop(dropped or "", None)
        if dropped != name:
            panels = (("image", reduced(image, EDGE)), ("anomaly map", reduced(picture, EDGE)))
            with self._lock:
                if (result.score, name) in self._kept:
                    self.panels[name] = panels
        return picture
