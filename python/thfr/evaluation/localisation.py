"""Areas under the PRO, sPRO and ROC curves over the pixels of many images, from one ranking of them."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from thfr import distributed
from thfr.data.base import Regions, components
from thfr.errors import InputError
from thfr.evaluation.native import native_module, thread_count, view

_LEAST = 1_000_000  # bytes of a bounded metric, by thfr_ext.metrics


@dataclass(frozen=True)
class Question:
    """An area under the sPRO curve of the images of some kinds."""

    kinds: tuple[str, ...]
    saturation: Literal["area", "own"]
    """Where a region counts as found: at its whole area (PRO), or as :class:`~thfr.data.Regions` says."""
    limits: tuple[float, ...]


@dataclass(frozen=True)
class PixelFigures:
    """What the pixels of a test split give; None where the data do not define it."""

    auroc: float | None
    """Of the pixels in regions against all others."""
    areas: tuple[dict[float, float | None], ...]
    """For each question: limit -> area."""
    error_bounds: dict[str, float] | None = None
    """How far the exact values may be, at most, where memory was bounded; None: the values are exact."""


@dataclass(frozen=True)
class _Image:
    """A map and what is kept of its regions."""

    kind: str
    anomaly_map: np.ndarray  # float32 [H,W]
    covered: np.ndarray  # bool [H,W], pixels in any region
    scores: np.ndarray  # float32 [p], region after region
    areas: np.ndarray  # int64 [R]
    saturations: np.ndarray  # int64 [R]


class TestPixels:
    """The pixels of all test images; images may come from several threads, in any order.

    Takes five bytes a pixel (an image without regions four) until :meth:`figures` is done, which needs some
    50 bytes more for each distinct score of the regions' pixels, and 16 for each kind.
    """

    __test__ = False  # the name is not meant for pytest

    def __init__(self) -> None:
        self._native = native_module()
        self._images: dict[int, _Image] = {}
        self._blank: dict[tuple[int, ...], np.ndarray] = {}

    def add(self, number: int, kind: str, anomaly_map: np.ndarray, truth: Regions | np.ndarray) -> None:
        """Take an image.

        Args:
            number: its place among the images, for messages.
            anomaly_map: float32 [H,W], contiguous; kept, not copied.
            truth: its regions, or a mask, bool [H,W], whose 8-connected components are the regions.
        """
        masks = truth.masks if isinstance(truth, Regions) else truth[None]
        if not masks.any():
            shape = anomaly_map.shape
            covered = self._blank.setdefault(shape, np.zeros(shape, dtype=bool))
            nothing = np.zeros(0, np.int64)
            image = _Image(kind, anomaly_map, covered, np.zeros(0, np.float32), nothing, nothing)
        elif isinstance(truth, Regions):
            image = self._of_regions(kind, anomaly_map, truth)
        else:
            image = self._of_components(kind, anomaly_map, truth)
        self._images[number] = image

    def _of_regions(self, kind: str, anomaly_map: np.ndarray, truth: Regions) -> _Image:
        areas = np.array([np.count_nonzero(mask) for mask in truth.masks], dtype=np.int64)
        offsets = np.concatenate([[0], np.cumsum(areas)]).astype(np.int64)
        scores = np.empty(offsets[-1], dtype=np.float32)
        covered = np.empty(anomaly_map.shape, dtype=bool)
        self._native.region_scores(
            [view(anomaly_map)], [view(truth.masks)], view(offsets), view(scores), [view(covered)], 1
        )
        saturations = np.array(truth.saturations, dtype=np.int64)
        return _Image(kind, anomaly_map, covered, scores, areas, saturations)

    def _of_components(self, kind: str, anomaly_map: np.ndarray, mask: np.ndarray) -> _Image:
        height, width = mask.shape
        scores = np.empty(np.count_nonzero(mask), dtype=np.float32)
        offsets = np.empty(-(-height // 2) * -(-width // 2) + 1, dtype=np.int64)
        found = self._native.component_scores(
            [view(anomaly_map)], [view(mask)], view(scores), view(offsets), 1
        )
        areas = np.diff(offsets[: found + 1])
        return _Image(kind, anomaly_map, mask, scores, areas, areas)

    def collect(self) -> None:
        """Give the main process of ``torchrun`` what the others have: their maps, one each at a time."""
        own = sorted(self._images)
        for turn in range(max(distributed.gather_objects(len(own)))):
            for part in distributed.collect_objects({n: self._images[n] for n in own[turn : turn + 1]}):
                self._images.update(part)

    def figures(self, questions: Sequence[Question]) -> PixelFigures:
        """The answers, from a single ranking of all pixels."""
        images = [self._images[number] for number in sorted(self._images)]
        if not images:
            return PixelFigures(None, tuple(dict.fromkeys(one.limits) for one in questions))
        kinds = sorted({image.kind for image in images})
        scores = np.concatenate([image.scores for image in images])
        areas = np.concatenate([image.areas for image in images])
        offsets = np.concatenate([[0], np.cumsum(areas)]).astype(np.int64)
        own = np.concatenate([image.saturations for image in images])
        groups = np.array([kinds.index(image.kind) for image in images], dtype=np.int64)
        of_region = np.repeat(groups, [len(image.areas) for image in images])
        asked = [
            (
                sum(1 << group for group, kind in enumerate(kinds) if kind in one.kinds),
                own if one.saturation == "own" else areas,
                np.array(one.limits, dtype=np.float64),
                np.full(len(one.limits), np.nan),
            )
            for one in questions
        ]
        _, negatives, positives, auroc = self._native.sweep_figures(
            [view(image.anomaly_map) for image in images], [view(image.covered) for image in images],
            view(groups), len(kinds), view(scores), view(offsets), view(of_region),
            [(bits, *map(view, arrays)) for bits, *arrays in asked], thread_count(),
        )  # fmt: skip
        return PixelFigures(
            float(auroc) if positives and sum(negatives) else None,
            tuple(
                {limit: None if np.isnan(area) else float(area) for limit, area in zip(*pair, strict=True)}
                for pair in ((one.limits, found) for one, (*_, found) in zip(questions, asked, strict=True))
            ),
        )


class BoundedPixels:
    """As :class:`TestPixels` in bounded memory: values with an error bound (:mod:`thfr_ext.metrics`)."""

    def __init__(self, memory: int, questions: Sequence[Question]) -> None:
        """``memory``: bytes of all states together."""
        from thfr_ext.metrics import AUROC, AUsPRO

        each = memory // (1 + len(questions))
        if each < _LEAST:
            least = _LEAST * (1 + len(questions))
            raise InputError(f"evaluate: memory: expected at least {least:,} bytes, got {memory:,}")
        self._lock = threading.Lock()
        self._questions = tuple(questions)
        self._auroc = AUROC(exact=False, memory=each, sync_on_compute=False)  # see collect
        self._areas = [
            AUsPRO(limits=one.limits, exact=False, memory=each, sync_on_compute=False) for one in questions
        ]
        self._seen = [[False, False] for _ in range(1 + len(questions))]  # pixels outside and in regions

    def add(self, number: int, kind: str, anomaly_map: np.ndarray, truth: Regions | np.ndarray) -> None:
        """As :meth:`TestPixels.add`; nothing is kept of the map."""
        regions = truth if isinstance(truth, Regions) else components(truth)
        covered = np.asarray(regions.masks.any(axis=0))
        areas = tuple(int(np.count_nonzero(mask)) for mask in regions.masks)
        with self._lock:
            self._note(0, covered)
            self._auroc.update(anomaly_map, covered)
            for place, (one, metric) in enumerate(zip(self._questions, self._areas, strict=True), 1):
                if kind in one.kinds:
                    self._note(place, covered)
                    counts = areas if one.saturation == "area" else regions.saturations
                    metric.update([anomaly_map], [regions.masks], [counts])

    def _note(self, place: int, covered: np.ndarray) -> None:
        seen = self._seen[place]
        seen[0] = seen[0] or not covered.all()
        seen[1] = seen[1] or bool(covered.any())

    def collect(self) -> None:
        """Give the main process of ``torchrun`` what the others keep, one figure after the other."""
        for place, metric in enumerate([self._auroc, *self._areas]):
            for state, seen in distributed.collect_objects((metric.metric_state, self._seen[place]))[1:]:
                metric.merge_state(state)
                self._seen[place] = [one or other for one, other in zip(self._seen[place], seen, strict=True)]

    def figures(self, questions: Sequence[Question]) -> PixelFigures:
        """The answers to the questions given before."""
        assert tuple(questions) == self._questions
        found: list[Any] = [
            metric.compute() if all(seen) else None
            for metric, seen in zip([self._auroc, *self._areas], self._seen, strict=True)
        ]
        bounds = {
            name: float(np.max(np.asarray(_numbers(metric.error_bound))))
            for name, metric, value in zip(
                ["pixel_auroc", *map(_name, questions)], [self._auroc, *self._areas], found, strict=True
            )
            if value is not None
        }
        areas: list[dict[float, float | None]] = []
        for one, values in zip(questions, found[1:], strict=True):
            areas.append({limit: None if values is None else float(values[limit]) for limit in one.limits})
        return PixelFigures(None if found[0] is None else float(found[0]), tuple(areas), bounds)


def _name(question: Question) -> str:
    kinds = [kind for kind in question.kinds if kind != "good"]
    return "au_pro" if question.saturation == "area" else f"auc_spro.{'+'.join(kinds)}"


def _numbers(value: Any) -> list[float]:
    return [float(one) for one in value.values()] if isinstance(value, dict) else [float(value)]
