"""PRO and sPRO curves: those of the protocol, with few points."""

from __future__ import annotations

import numpy as np
import pytest
from thfr.evaluation import evaluate_maps
from thfr.visualization.curves import overlap_curves, thinned

from .conftest import Study


def test_the_areas_below_are_the_figures_of_the_evaluation(study: Study) -> None:
    dataset = study.dataset
    rng = np.random.default_rng(0)
    maps = {
        sample: (rng.random((320, 320)) + 0.7 * dataset.mask(sample)).astype(np.float32)
        for sample in dataset.test
    }
    metrics = evaluate_maps(dataset, maps)
    pro, spro = overlap_curves(dataset, maps)
    assert (pro.name, pro.limit, list(pro.curves)) == ("PRO", 0.3, ["all regions"])
    assert (spro.name, spro.limit, list(spro.curves)) == ("sPRO", 0.05, dataset.kinds)
    assert area(*pro.curves["all regions"], 0.3) == pytest.approx(metrics["au_pro"], abs=2e-3)
    for kind, curve in spro.curves.items():
        expected = metrics["localization"]["auc_spro"][kind]["0.05"]
        assert area(*curve, 0.05) == pytest.approx(expected, abs=2e-3)
        assert len(curve[0]) < 700


def area(fpr: np.ndarray, overlap: np.ndarray, limit: float) -> float:
    grid = np.linspace(0, limit, 2001)
    return float(np.interp(grid, fpr, overlap).mean())


def test_thinned_curves_keep_their_ends_and_only_points_of_the_curve() -> None:
    fpr = np.linspace(0, 1, 100_001)
    found, overlap = thinned(fpr, fpr**0.1, 0.05)
    assert (found[0], found[-1], overlap[-1]) == (0, 1, 1)
    assert (np.diff(found) > 0).all()
    np.testing.assert_array_equal(overlap, found**0.1)
    assert 250 < (found <= 0.1).sum() < 400
    few = np.array([0.0, 0.5, 1.0])
    np.testing.assert_array_equal(thinned(few, few, 0.3)[0], few)
