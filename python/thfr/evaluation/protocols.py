"""The published protocols of MVTec AD and MVTec LOCO AD on anomaly maps at native size.

Sources: Bergmann et al., CVPR 2019 and IJCV 2021 (MVTec AD: image and pixel AUROC, PRO); Bergmann et al.,
IJCV 2022 (MVTec LOCO AD: image AUROC and sPRO by kind of anomaly), with the file layout of its official
evaluation tool.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from tqdm import tqdm

from thfr import distributed
from thfr.data.base import GOOD, Dataset, Sample
from thfr.data.formats.mvtec_loco import KINDS
from thfr.data.parallel import parallel_map
from thfr.errors import InputError
from thfr.evaluation.localisation import BoundedPixels, PixelFigures, Question, TestPixels
from thfr.evaluation.maps import listed
from thfr.evaluation.native import native_module, view
from thfr.evaluation.region import within
from thfr.io import Region, printable

Maps = Mapping[Sample, np.ndarray] | Callable[[Sample], np.ndarray]

SPRO_LIMITS = (0.01, 0.05, 0.1, 0.3, 1.0)


def evaluate_maps(
    dataset: Dataset,
    maps: Maps,
    scores: Mapping[Sample, float] | None = None,
    *,
    threshold: float | Mapping[Sample, float] | None = None,
    region: Region | None = None,
    progress: bool = False,
    threads: int = 1,
    memory: int | None = None,
    shared: bool = False,
) -> dict[str, Any]:
    """Score the anomaly maps of a data set's test images with its protocol (``dataset.PROTOCOL``).

    Args:
        dataset: of any format with a test split.
        maps: for each test image a float map [H,W] at the image's native size, larger where more anomalous.
            A function is called once for each image, in the order of ``dataset.test``.
        scores: for each test image its anomaly score; without it the maximum of its map.
        threshold: on the scores, above which an image is called bad, for ``image_f1``; one for all images,
            or each image's own (looked up after its map).
        region: of interest: pixels outside of it are in no figure, a defect is its part inside, and an
        anomalous
            image with no anomalous pixel inside is left out of the image figures.
        progress: show a progress bar on stderr.
        threads: images looked at at once; with more than one, ``maps`` is called from several threads, in no
            order.
        memory: bytes for what is kept of the pixels (3 million at least for each figure of them); the
            figures then come with ``error_bounds``. None: all pixels are kept, five bytes each, and figures
            are exact.
        shared: the processes of ``torchrun`` call this together and take turns, an image each. The main one
            gets what the others keep of the pixels, ``memory`` bytes of each at most, and has the figures;
            the others have an empty dict.

    Returns:
        What ``metrics.json`` holds, figures from 0 to 1: ``dataset``, ``category``, ``images`` (their
        number by kind), ``image_auroc``, ``image_aupr`` (average precision) and ``image_f1`` (at the
        threshold) of all anomalous against all good images, ``pixel_auroc`` (all pixels of all test images,
        the mask being the union of the regions), ``au_pro`` (to the FPR ``au_pro_limit``,
        ``dataset.PRO_LIMIT``), and

        - MVTec AD: ``defects``: kind -> ``image_auroc`` of that kind against the good images.
        - MVTec LOCO AD: the official schema, ``classification.auc_roc.<kind>`` and
          ``localization.auc_spro.<kind>.<limit>`` for the kinds ``logical_anomalies``,
          ``structural_anomalies`` and ``mean``, half their sum. Each kind is scored together with all good
          images. ``image_auroc`` is the mean of ``auc_roc`` over the kinds that are there; for ``au_pro``
          each PNG is one region that saturates at its whole area.

        With ``region`` also ``region``: the ``share`` of the image that counts, ``images_left_out``.

        A figure that the data do not define is None: that of a kind with no image and a mean that would
        need it, an AUROC without good or without anomalous images, everything about pixels without masks.

    Raises:
        InputError: the data set has no test split, or a map is missing, or is not a float array of its
            image's size, or holds a NaN; a mask that :meth:`thfr.data.Dataset.regions` rejects.
    """
    if not dataset.test:
        raise InputError(
            f"evaluate: dataset must have test images, {dataset.name} {printable(dataset.folder)} has none"
        )
    loco = dataset.PROTOCOL == "mvtec_loco"
    questions = _questions(dataset)
    pixels = TestPixels() if memory is None else BoundedPixels(memory, questions)

    def take(number: int) -> float | None:
        """The image's score; None if no anomalous pixel lies within the region."""
        sample = dataset.test[number]
        anomaly_map = _checked_map(maps, dataset, sample)
        score = _image_score(scores, sample, anomaly_map, region)
        if region is not None and dataset.has_masks:
            counting = region.scaled((anomaly_map.shape[0], anomaly_map.shape[1]))
            inside, parts = within(anomaly_map, dataset.regions(sample), counting)
            pixels.add(number, sample.kind, inside, parts)
            return None if sample.kind != GOOD and not len(parts.masks) else score
        if dataset.has_masks:
            truth = dataset.regions(sample) if loco else dataset.mask(sample)
            pixels.add(number, sample.kind, anomaly_map, truth)
        return score

    image_scores: dict[str, list[float]] = {kind: [] for kind in (GOOD, *dataset.kinds)}
    above: dict[bool, list[float]] = {False: [], True: []}  # by whether the image is anomalous
    left_out = 0
    numbers = range(len(dataset.test))
    if shared:
        own = numbers[distributed.rank() :: distributed.world()]
        taken = _of_all(lambda: _taken(take, own, threads, progress), len(numbers))
        pixels.collect()
        if not distributed.is_main():
            return {}
    else:
        taken = _taken(take, numbers, threads, progress)
    for sample, score in zip(dataset.test, taken, strict=True):
        if score is None:
            left_out += 1
        else:
            image_scores[sample.kind].append(score)
            if threshold is not None:
                limit = threshold[sample] if isinstance(threshold, Mapping) else threshold
                above[sample.is_anomalous].append(score - limit)
    found = pixels.figures(questions)

    counts = {kind: len(values) for kind, values in image_scores.items()}
    head = {"dataset": dataset.name, "category": dataset.category, "images": counts}
    good = image_scores[GOOD]
    bad = [value for kind, values in image_scores.items() if kind != GOOD for value in values]
    more: dict[str, Any] = {
        "image_aupr": image_aupr(good, bad),
        "image_f1": None if threshold is None else image_f1(above[False], above[True], 0.0),
        "au_pro_limit": dataset.PRO_LIMIT,
    }
    if found.error_bounds is not None:
        more["error_bounds"] = found.error_bounds
    if region is not None:
        more["region"] = {"share": region.share, "images_left_out": left_out}
    return head | (_loco_figures if loco else _ad_figures)(image_scores, found) | more


def _of_all(take: Callable[[], list[float | None]], count: int) -> list[float | None]:
    """The scores of all processes' images, in the images' order. What is wrong in one is raised in all."""
    found, wrong = [], None
    try:
        found = take()
    except InputError as error:
        wrong = str(error)
    each = distributed.gather_objects((found, wrong))
    problems = [problem for _, problem in each if problem is not None]
    if problems:
        raise InputError("\n".join(problems))
    return [each[number % len(each)][0][number // len(each)] for number in range(count)]


def _taken(
    take: Callable[[int], float | None], own: Sequence[int], threads: int, progress: bool
) -> list[float | None]:
    """The images' scores. With one thread the first problem ends it; with more, all of them are told."""
    if threads == 1:
        numbers = tqdm(own, desc="evaluate", unit="image", disable=not progress, leave=False)
        return [take(number) for number in numbers]

    def attempt(number: int) -> float | InputError | None:
        try:
            return take(number)
        except InputError as error:
            return error

    found = parallel_map(attempt, own, threads=threads, progress=progress, description="evaluate")
    problems = [one for one in found if isinstance(one, InputError)]
    if len(problems) == 1:
        raise problems[0]
    if problems:
        told = [str(one).removeprefix("evaluate: maps: ") for one in problems]
        raise InputError("evaluate: of the maps and masks:\n" + "\n".join(listed("unusable", told)))
    return [one for one in found if not isinstance(one, InputError)]


def _questions(dataset: Dataset) -> list[Question]:
    """The areas of the data set's protocol: AU-PRO of all images, then AU-sPRO of each kind there is."""
    pro = Question((GOOD, *dataset.kinds), "area", (dataset.PRO_LIMIT,))
    if dataset.PROTOCOL != "mvtec_loco":
        return [pro]
    return [pro, *(Question((GOOD, kind), "own", SPRO_LIMITS) for kind in KINDS)]


def _ad_figures(image_scores: Mapping[str, Sequence[float]], pixels: PixelFigures) -> dict[str, Any]:
    good = image_scores[GOOD]
    kinds = {kind: values for kind, values in image_scores.items() if kind != GOOD}
    every = [value for values in kinds.values() for value in values]
    return {
        "image_auroc": image_auroc(good, every),
        "pixel_auroc": pixels.auroc,
        "au_pro": next(iter(pixels.areas[0].values())),
        "defects": {kind: {"image_auroc": image_auroc(good, values)} for kind, values in kinds.items()},
    }


def _loco_figures(image_scores: Mapping[str, Sequence[float]], pixels: PixelFigures) -> dict[str, Any]:
    auc_roc = {kind: image_auroc(image_scores[GOOD], image_scores.get(kind, ())) for kind in KINDS}
    auc_spro = {
        kind: {str(limit): area for limit, area in areas.items()}
        for kind, areas in zip(KINDS, pixels.areas[1:], strict=True)
    }
    known = [value for value in auc_roc.values() if value is not None]
    mean_spro = {key: _mean([auc_spro[kind][key] for kind in KINDS]) for key in map(str, SPRO_LIMITS)}
    return {
        "image_auroc": _mean(known) if known else None,
        "pixel_auroc": pixels.auroc,
        "au_pro": next(iter(pixels.areas[0].values())),
        "classification": {"auc_roc": {**auc_roc, "mean": _mean(list(auc_roc.values()))}},
        "localization": {"auc_spro": {**auc_spro, "mean": mean_spro}},
    }


def image_auroc(good: Sequence[float], anomalous: Sequence[float]) -> float | None:
    """AUROC of the image scores of good against anomalous images; None if there are none of either."""
    if not good or not anomalous:
        return None
    labels = np.array([False] * len(good) + [True] * len(anomalous))
    scores = np.array([*good, *anomalous], dtype=np.float64)
    (nan, _), area = native_module().auroc(view(scores), view(labels), 1)
    if nan >= 0:
        raise InputError("evaluate: scores: expected numbers, got NaN")
    return float(area)


def image_aupr(good: Sequence[float], anomalous: Sequence[float]) -> float | None:
    """Average precision of the image scores, anomalous images being the positives: the sum over the distinct
    scores of precision times the gain in recall; None as for :func:`image_auroc`.
    """
    if not good or not anomalous:
        return None
    scores = np.array([*good, *anomalous], dtype=np.float64)
    labels = np.array([0] * len(good) + [1] * len(anomalous))
    order = np.argsort(-scores, kind="stable")
    last = np.append(np.diff(scores[order]) != 0, True)  # of each group of equal scores
    found, taken = np.cumsum(labels[order])[last], np.arange(1, len(scores) + 1)[last]
    return float(np.sum(found / taken * np.diff(found, prepend=0)) / len(anomalous))


def image_f1(good: Sequence[float], anomalous: Sequence[float], threshold: float) -> float | None:
    """F1 of calling images above the threshold anomalous; None without anomalous images."""
    if not anomalous:
        return None
    hits = sum(score > threshold for score in anomalous)
    alarms = sum(score > threshold for score in good)
    return 2 * hits / (hits + alarms + len(anomalous))


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if len(known) == len(values) else None


def _checked_map(maps: Maps, dataset: Dataset, sample: Sample) -> np.ndarray:
    """The sample's map as float32 [H,W]."""
    if not callable(maps) and sample not in maps:
        raise InputError(f"evaluate: maps has no map for the test image {sample.path}")
    value = maps(sample) if callable(maps) else maps[sample]
    expected = dataset.size(sample)
    if not isinstance(value, np.ndarray) or value.dtype.kind != "f" or value.shape != expected:
        got = f"{value.dtype} {list(value.shape)}" if isinstance(value, np.ndarray) else type(value).__name__
        raise InputError(
            f"evaluate: the map of {sample.path} must be a float array "
            f"[{expected[0]},{expected[1]}], got {got}"
        )
    if np.isnan(value.min()):
        raise InputError(f"evaluate: the map of {sample.path} holds {int(np.isnan(value).sum())} NaN")
    return np.ascontiguousarray(value, dtype=np.float32)


def _image_score(
    scores: Mapping[Sample, float] | None, sample: Sample, anomaly_map: np.ndarray, region: Region | None
) -> float:
    if scores is None:
        return float((anomaly_map if region is None else anomaly_map[region.scaled(anomaly_map.shape)]).max())
    if sample not in scores:
        raise InputError(f"evaluate: scores has no score for the test image {sample.path}")
    return float(scores[sample])
