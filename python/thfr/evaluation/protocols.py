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

from thfr.data import Dataset, Sample
from thfr.data.base import GOOD
from thfr.data.formats.mvtec_loco import KINDS
from thfr.errors import InputError
from thfr.evaluation.localisation import TestPixels
from thfr.evaluation.region import regions_of, within
from thfr.io import Region, printable
from thfr_ext import auroc

Maps = Mapping[Sample, np.ndarray] | Callable[[Sample], np.ndarray]

SPRO_LIMITS = (0.01, 0.05, 0.1, 0.3, 1.0)


def evaluate_maps(
    dataset: Dataset,
    maps: Maps,
    scores: Mapping[Sample, float] | None = None,
    *,
    threshold: float | None = None,
    region: Region | None = None,
    progress: bool = False,
) -> dict[str, Any]:
    """Score the anomaly maps of a data set's test images with its protocol (``dataset.PROTOCOL``).

    Args:
        dataset: of any format with a test split.
        maps: for each test image a float map [H,W] at the image's native size, larger where more anomalous.
            A function is called once for each image, in the order of ``dataset.test``.
        scores: for each test image its anomaly score; without it the maximum of its map.
        threshold: on the scores, above which an image is called bad, for ``image_f1``.
        region: of interest: pixels outside of it are in no figure, a defect is its part inside, and an
        anomalous
            image with no anomalous pixel inside is left out of the image figures.
        progress: show a progress bar on stderr.

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
    pixels = TestPixels(_sizes(dataset, region))
    image_scores: dict[str, list[float]] = {kind: [] for kind in (GOOD, *dataset.kinds)}
    left_out = 0
    for sample in tqdm(dataset.test, desc="evaluate", unit="image", disable=not progress, leave=False):
        anomaly_map = _checked_map(maps, dataset, sample)
        score = _image_score(scores, sample, anomaly_map, region)
        if region is not None and dataset.has_masks:
            inside, parts = within(anomaly_map, regions_of(dataset, sample), region)
            pixels.add_regions(inside, parts)
            if sample.kind != GOOD and not len(parts.masks):
                left_out += 1
                continue
        elif dataset.has_masks and loco:
            pixels.add_regions(anomaly_map, dataset.regions(sample))
        elif dataset.has_masks:
            pixels.add_mask(anomaly_map, dataset.mask(sample))
        image_scores[sample.kind].append(score)

    counts = {kind: len(values) for kind, values in image_scores.items()}
    head = {"dataset": dataset.name, "category": dataset.category, "images": counts}
    good = image_scores[GOOD]
    bad = [value for kind, values in image_scores.items() if kind != GOOD for value in values]
    more: dict[str, Any] = {
        "image_aupr": image_aupr(good, bad),
        "image_f1": None if threshold is None else image_f1(good, bad, threshold),
        "au_pro_limit": dataset.PRO_LIMIT,
    }
    if region is not None:
        more["region"] = {"share": region.share, "images_left_out": left_out}
    found = _loco_figures if loco else _ad_figures
    return head | found(dataset, image_scores, pixels) | more


def _images_of(dataset: Dataset, kind: str) -> list[int]:
    """Where in ``dataset.test`` the images of that kind and the good ones are."""
    return [index for index, sample in enumerate(dataset.test) if sample.kind in (GOOD, kind)]


def _ad_figures(
    dataset: Dataset, image_scores: Mapping[str, Sequence[float]], pixels: TestPixels
) -> dict[str, Any]:
    good = image_scores[GOOD]
    kinds = {kind: values for kind, values in image_scores.items() if kind != GOOD}
    every = [value for values in kinds.values() for value in values]
    return {
        "image_auroc": image_auroc(good, every),
        "pixel_auroc": pixels.pixel_auroc(),
        "au_pro": pixels.au_pro(dataset.PRO_LIMIT),
        "defects": {kind: {"image_auroc": image_auroc(good, values)} for kind, values in kinds.items()},
    }


def _loco_figures(
    dataset: Dataset, image_scores: Mapping[str, Sequence[float]], pixels: TestPixels
) -> dict[str, Any]:
    auc_roc = {kind: image_auroc(image_scores[GOOD], image_scores.get(kind, ())) for kind in KINDS}
    auc_spro: dict[str, dict[str, float | None]] = {}
    for kind in KINDS:
        there = kind in dataset.kinds and dataset.has_masks
        areas = (
            pixels.au_spro(_images_of(dataset, kind), SPRO_LIMITS) if there else dict.fromkeys(SPRO_LIMITS)
        )
        auc_spro[kind] = {str(limit): areas[limit] for limit in SPRO_LIMITS}
    known = [value for value in auc_roc.values() if value is not None]
    mean_spro = {key: _mean([auc_spro[kind][key] for kind in KINDS]) for key in map(str, SPRO_LIMITS)}
    return {
        "image_auroc": _mean(known) if known else None,
        "pixel_auroc": pixels.pixel_auroc(),
        "au_pro": pixels.au_pro_of_regions(dataset.PRO_LIMIT),
        "classification": {"auc_roc": {**auc_roc, "mean": _mean(list(auc_roc.values()))}},
        "localization": {"auc_spro": {**auc_spro, "mean": mean_spro}},
    }


def image_auroc(good: Sequence[float], anomalous: Sequence[float]) -> float | None:
    """AUROC of the image scores of good against anomalous images; None if there are none of either."""
    if not good or not anomalous:
        return None
    labels = np.array([False] * len(good) + [True] * len(anomalous))
    return float(auroc(np.array([*good, *anomalous], dtype=np.float64), labels))


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
    if np.isnan(value).any():
        raise InputError(f"evaluate: the map of {sample.path} holds {int(np.isnan(value).sum())} NaN")
    return np.ascontiguousarray(value, dtype=np.float32)


def _sizes(dataset: Dataset, region: Region | None) -> list[tuple[int, int]]:
    """Of the maps as :class:`TestPixels` gets them: within a region the pixels that count, in a row."""
    sizes = [dataset.size(sample) for sample in dataset.test] if dataset.has_masks else []
    return sizes if region is None else [(1, int(region.scaled(size).sum())) for size in sizes]


def _image_score(
    scores: Mapping[Sample, float] | None, sample: Sample, anomaly_map: np.ndarray, region: Region | None
) -> float:
    if scores is None:
        return float((anomaly_map if region is None else anomaly_map[region.scaled(anomaly_map.shape)]).max())
    if sample not in scores:
        raise InputError(f"evaluate: scores has no score for the test image {sample.path}")
    return float(scores[sample])
