"""AUROC against scikit-learn."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score
from support.device import REAL_DEVICES, examples

import thfr_ext

pytestmark = pytest.mark.usefixtures("device")


@pytest.mark.parametrize("levels", [2, 5, 10**9])
@pytest.mark.parametrize("share", [0.02, 0.5, 0.9])
@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.float16])
def test_against_scikit_learn(levels: int, share: float, dtype: type) -> None:
    generator = np.random.default_rng(levels)
    scores = (np.floor(generator.random(4000) * levels) / levels).astype(dtype)
    labels = generator.random(4000) < share
    assert thfr_ext.auroc(scores, labels) == pytest.approx(roc_auc_score(labels, scores), abs=1e-12)


@REAL_DEVICES
def test_large() -> None:
    generator = np.random.default_rng(0)
    scores, labels = generator.standard_normal((30, 100, 100)), generator.random((30, 100, 100)) < 0.3
    expected = roc_auc_score(labels.ravel(), scores.ravel())
    assert thfr_ext.auroc(scores, labels) == pytest.approx(expected, abs=1e-12)


@examples(100)
@given(st.lists(st.tuples(st.integers(-3, 3), st.booleans()), min_size=2, max_size=40))
def test_pairs(pairs: list[tuple[int, bool]]) -> None:
    positives = [s for s, label in pairs if label]
    negatives = [s for s, label in pairs if not label]
    scores, labels = np.array([float(s) for s, _ in pairs]), np.array([label for _, label in pairs])
    if not positives or not negatives:
        with pytest.raises(ValueError, match="auroc: labels: expected positives and negatives"):
            thfr_ext.auroc(scores, labels)
        return
    won = sum((p > n) + 0.5 * (p == n) for p in positives for n in negatives)
    assert thfr_ext.auroc(scores, labels) == pytest.approx(won / len(positives) / len(negatives), abs=1e-15)
    assert thfr_ext.auroc(-scores, labels) == pytest.approx(1 - thfr_ext.auroc(scores, labels), abs=1e-15)


@pytest.mark.parametrize(
    "labels",
    [[False, True, True], [0, 1, 1], np.array([0, 1, 1], np.uint8), np.array([0.0, 1.0, 1.0])],
    ids=["bool", "int", "uint8", "float"],
)
def test_labels_of_any_kind(labels: object) -> None:
    assert thfr_ext.auroc(np.array([1.0, 2.0, 0.5]), np.asarray(labels)) == 0.5


@pytest.mark.parametrize(
    ("scores", "labels", "error", "message"),
    [
        (
            [1.0, 2.0],
            [1, 1],
            ValueError,
            "auroc: labels: expected positives and negatives, got 2 positives among 2",
        ),
        (
            [1.0, 2.0],
            [0, 0],
            ValueError,
            "auroc: labels: expected positives and negatives, got 0 positives among 2",
        ),
        ([], [], ValueError, "auroc: labels: expected positives and negatives, got 0 positives among 0"),
        ([1.0, float("nan")], [0, 1], ValueError, "auroc: scores: expected numbers, got NaN"),
        ([float("nan"), 1.0], [0, 1], ValueError, "auroc: scores: expected numbers, got NaN"),
        ([1.0, 2.0], [0, 2], ValueError, "auroc: labels: expected bool, or 0 and 1"),
        ([1.0, 2.0], [0, 1, 1], ValueError, "auroc: labels: expected shape and device of scores"),
        ([1, 2], [0, 1], TypeError, "auroc: scores: expected float32"),
    ],
)
def test_wrong_input(scores: list, labels: list, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        thfr_ext.auroc(torch.tensor(scores), torch.tensor(labels))
