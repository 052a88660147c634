"""evaluate_maps against figures worked out by hand, and against a loop over thresholds."""

from __future__ import annotations

import json
from collections.abc import Callable

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score
from thfr.data import Dataset, Sample, load_dataset
from thfr.errors import InputError
from thfr.evaluation import evaluate_maps, metrics_table

LIMITS = ("0.01", "0.05", "0.1", "0.3", "1.0")
KINDS = ("logical_anomalies", "structural_anomalies")


def random_maps(dataset: Dataset, levels: int | None = None) -> dict[Sample, np.ndarray]:
    """Maps that know something of the mask; with ``levels``, full of ties."""
    rng = np.random.default_rng(7)
    maps = {}
    for sample in dataset.test:
        mask = dataset.mask(sample)
        values = rng.normal(size=mask.shape) + mask
        maps[sample] = (np.floor(values * levels) / levels if levels else values).astype(np.float32)
    return maps


def swept_area(
    dataset: Dataset, maps: dict[Sample, np.ndarray], limit: float, kinds: tuple[str, ...], saturate: bool
) -> float:
    """AU-sPRO by the definition: every threshold, strict `>`, trapezoids, cut at the limit."""
    samples = [sample for sample in dataset.test if sample.kind in kinds]
    negatives = np.concatenate([maps[s][~dataset.mask(s)] for s in samples])
    regions: list[tuple[np.ndarray, int]] = []
    for sample in samples:
        found = dataset.regions(sample)
        for mask, saturation in zip(found.masks, found.saturations, strict=True):
            regions.append((maps[sample][mask], saturation if saturate else int(mask.sum())))
    thresholds = np.unique(np.concatenate([maps[s].ravel() for s in samples]))[::-1]
    fpr, overlap = [], []
    for threshold in [*thresholds, -np.inf]:
        fpr.append((negatives > threshold).mean())
        overlap.append(np.mean([min((values > threshold).sum() / s, 1.0) for values, s in regions]))
    inside = [(f, o) for f, o in zip(fpr, overlap, strict=True) if f < limit]
    inside.append((limit, float(np.interp(limit, fpr, overlap))))
    x, y = np.array(inside).T
    return float(np.trapezoid(y, x) / limit)


def test_perfect_maps_score_one(mvtec_ad: Dataset) -> None:
    metrics = evaluate_maps(mvtec_ad, lambda sample: mvtec_ad.mask(sample).astype(np.float32))
    assert (metrics["image_auroc"], metrics["pixel_auroc"], metrics["au_pro"]) == (1.0, 1.0, 1.0)
    assert metrics["defects"] == {"dent": {"image_auroc": 1.0}, "scratch": {"image_auroc": 1.0}}
    assert metrics["images"] == {"good": 2, "dent": 1, "scratch": 2}


def test_a_constant_map_scores_what_chance_does(mvtec_ad: Dataset) -> None:
    metrics = evaluate_maps(mvtec_ad, lambda sample: np.full((12, 20), 0.25, np.float32))
    assert metrics["image_auroc"] == 0.5
    assert metrics["pixel_auroc"] == 0.5
    assert metrics["au_pro"] == pytest.approx(0.15)  # the diagonal up to 0.3


def test_image_auroc_by_hand(mvtec_ad: Dataset) -> None:
    top = {
        ("good", "000"): 1,
        ("good", "001"): 3,
        ("scratch", "000"): 2,
        ("scratch", "001"): 3,
        ("dent", "000"): 9,
    }

    def peak(sample: Sample) -> np.ndarray:
        values = np.zeros((12, 20), np.float32)
        values[11, 19] = top[sample.kind, sample.id]
        return values

    metrics = evaluate_maps(mvtec_ad, peak)
    assert metrics["defects"]["scratch"]["image_auroc"] == (1 + 0 + 1 + 0.5) / 4
    assert metrics["defects"]["dent"]["image_auroc"] == 1.0
    assert metrics["image_auroc"] == pytest.approx((1 + 0 + 1 + 0.5 + 1 + 1) / 6)


def test_image_scores_can_be_given(mvtec_ad: Dataset) -> None:
    def zeros(sample: Sample) -> np.ndarray:
        return np.zeros((12, 20), np.float32)

    scores = {sample: float(sample.is_anomalous) for sample in mvtec_ad.test}
    assert evaluate_maps(mvtec_ad, zeros)["image_auroc"] == 0.5
    assert evaluate_maps(mvtec_ad, zeros, scores)["image_auroc"] == 1.0
    with pytest.raises(InputError, match=r"^evaluate: scores has no score for the test image .*dent"):
        evaluate_maps(mvtec_ad, zeros, {})


@pytest.mark.parametrize("levels", [None, 3])
def test_mvtec_ad_against_a_loop_over_thresholds(mvtec_ad: Dataset, levels: int | None) -> None:
    maps = random_maps(mvtec_ad, levels)
    metrics = evaluate_maps(mvtec_ad, maps)
    pixels = np.concatenate([maps[s].ravel() for s in mvtec_ad.test])
    labels = np.concatenate([mvtec_ad.mask(s).ravel() for s in mvtec_ad.test])
    assert metrics["pixel_auroc"] == pytest.approx(roc_auc_score(labels, pixels), abs=1e-12)
    kinds = ("good", "dent", "scratch")
    assert metrics["au_pro"] == pytest.approx(swept_area(mvtec_ad, maps, 0.3, kinds, False), abs=1e-9)
    image_scores = [maps[s].max() for s in mvtec_ad.test]
    assert metrics["image_auroc"] == pytest.approx(
        roc_auc_score([s.is_anomalous for s in mvtec_ad.test], image_scores)
    )


@pytest.mark.parametrize("levels", [None, 3])
def test_mvtec_loco_against_a_loop_over_thresholds(mvtec_loco: Dataset, levels: int | None) -> None:
    maps = random_maps(mvtec_loco, levels)
    metrics = evaluate_maps(mvtec_loco, maps)
    auc_spro, auc_roc = metrics["localization"]["auc_spro"], metrics["classification"]["auc_roc"]
    for kind in KINDS:
        split = [s for s in mvtec_loco.test if s.kind in ("good", kind)]
        expected = roc_auc_score([s.is_anomalous for s in split], [maps[s].max() for s in split])
        assert auc_roc[kind] == pytest.approx(expected)
        for limit in LIMITS:
            expected = swept_area(mvtec_loco, maps, float(limit), ("good", kind), True)
            assert auc_spro[kind][limit] == pytest.approx(expected, abs=1e-9), (kind, limit)
    for limit in LIMITS:
        half_sum = (auc_spro[KINDS[0]][limit] + auc_spro[KINDS[1]][limit]) / 2
        assert auc_spro["mean"][limit] == pytest.approx(half_sum)
    assert auc_roc["mean"] == pytest.approx((auc_roc[KINDS[0]] + auc_roc[KINDS[1]]) / 2)
    assert metrics["image_auroc"] == auc_roc["mean"]
    every = ("good", *KINDS)
    assert metrics["au_pro"] == pytest.approx(swept_area(mvtec_loco, maps, 0.3, every, False), abs=1e-9)
    pixels = np.concatenate([maps[s].ravel() for s in mvtec_loco.test])
    labels = np.concatenate([mvtec_loco.mask(s).ravel() for s in mvtec_loco.test])
    assert metrics["pixel_auroc"] == pytest.approx(roc_auc_score(labels, pixels), abs=1e-12)


def test_loco_schema_is_the_official_one(mvtec_loco: Dataset) -> None:
    metrics = json.loads(json.dumps(evaluate_maps(mvtec_loco, random_maps(mvtec_loco)), allow_nan=False))
    assert set(metrics["localization"]) == {"auc_spro"}
    assert set(metrics["classification"]) == {"auc_roc"}
    assert (
        set(metrics["localization"]["auc_spro"])
        == {*KINDS, "mean"}
        == set(metrics["classification"]["auc_roc"])
    )
    assert all(tuple(values) == LIMITS for values in metrics["localization"]["auc_spro"].values())


def test_a_kind_that_is_missing_is_null_and_so_is_the_mean(mvtec_loco_without_structural: Dataset) -> None:
    dataset = mvtec_loco_without_structural
    metrics = evaluate_maps(dataset, random_maps(dataset))
    auc_spro, auc_roc = metrics["localization"]["auc_spro"], metrics["classification"]["auc_roc"]
    nothing = dict.fromkeys(LIMITS)
    assert auc_spro["structural_anomalies"] == nothing
    assert auc_spro["mean"] == nothing
    assert all(isinstance(value, float) for value in auc_spro["logical_anomalies"].values())
    assert auc_roc["structural_anomalies"] is None
    assert auc_roc["mean"] is None
    assert metrics["image_auroc"] == auc_roc["logical_anomalies"]
    assert metrics["images"] == {"good": 2, "logical_anomalies": 2}
    row = next(line for line in metrics_table(metrics).splitlines() if line.startswith("AU-sPRO at FPR 0.05"))
    assert row.split()[-2:] == ["-", "-"]


def test_without_good_images_only_pixels_are_scored(mvtec_ad: Dataset) -> None:
    for path in (mvtec_ad.folder / "test" / "good").iterdir():
        path.unlink()
    (mvtec_ad.folder / "test" / "good").rmdir()
    dataset = load_dataset("mvtec_ad", mvtec_ad.root)
    metrics = evaluate_maps(dataset, random_maps(dataset))
    assert metrics["image_auroc"] is None
    assert metrics["pixel_auroc"] > 0.6
    assert metrics["au_pro"] > 0.15


def test_a_function_is_called_once_for_each_image_in_order(mvtec_loco: Dataset) -> None:
    seen = []

    def maps(sample: Sample) -> np.ndarray:
        seen.append(sample)
        return np.zeros((12, 20), np.float64)

    evaluate_maps(mvtec_loco, maps)
    assert tuple(seen) == mvtec_loco.test


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: np.zeros((12, 21), np.float32), r"must be a float array \[12,20\], got float32 \[12, 21\]"),
        (lambda: np.zeros((1, 12, 20), np.float32), r"must be a float array .* got float32 \[1, 12, 20\]"),
        (lambda: np.zeros((12, 20), np.uint8), r"must be a float array .* got uint8"),
        (lambda: [[0.0] * 20] * 12, r"must be a float array .* got list"),
        (lambda: np.full((12, 20), np.nan, np.float32), r"holds 240 NaN"),
    ],
)
def test_wrong_maps_are_named(mvtec_ad: Dataset, make: Callable[[], np.ndarray], message: str) -> None:
    with pytest.raises(InputError, match=rf"^evaluate: the map of .*000\.png {message}"):
        evaluate_maps(mvtec_ad, lambda sample: make())


def test_a_map_that_is_missing_is_named(mvtec_ad: Dataset) -> None:
    maps = random_maps(mvtec_ad)
    del maps[mvtec_ad.test[-1]]
    with pytest.raises(InputError, match=r"^evaluate: maps has no map for the test image .*scratch.001"):
        evaluate_maps(mvtec_ad, maps)


def test_a_folder_of_images_has_nothing_to_evaluate(mvtec_ad: Dataset) -> None:
    folder = load_dataset("folder", mvtec_ad.folder / "train")
    with pytest.raises(InputError, match=r"^evaluate: dataset must have test images, folder .* has none"):
        evaluate_maps(folder, {})


@pytest.mark.shared
def test_real_images_at_native_size(shared) -> None:
    """Difference to the mean good image at 800 x 1600."""
    from thfr.io import read_image

    root = shared / "data" / "mvtec_loco_native"
    if not root.is_dir():
        pytest.skip(f"no native images: {root} is absent")
    dataset = load_dataset("mvtec_loco", root, "juice_bottle")
    normal = np.mean([read_image(sample.path).astype(np.float32) for sample in dataset.train], axis=0)
    maps = {s: np.abs(read_image(s.path) - normal).mean(axis=2).astype(np.float32) for s in dataset.test}
    metrics = evaluate_maps(dataset, maps)
    assert next(iter(maps.values())).shape == (1600, 800)
    assert metrics["images"] == {"good": 3, "logical_anomalies": 6}
    labels = np.concatenate([dataset.mask(s).ravel() for s in dataset.test])
    pixels = np.concatenate([maps[s].ravel() for s in dataset.test])
    assert metrics["pixel_auroc"] == pytest.approx(roc_auc_score(labels, pixels), abs=1e-9)
    assert 0 < metrics["localization"]["auc_spro"]["logical_anomalies"]["0.05"] < 1
    # every region of this copy is a whole union mask that saturates at its area: PRO and sPRO agree
    assert metrics["au_pro"] == metrics["localization"]["auc_spro"]["logical_anomalies"]["0.3"]
