"""Drift is told when images change, and is not when they do not."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.images import products, write_images
from support.methods import run, small_config
from thfr.deploy.drift import FEWEST, DriftMonitor, in_words, stability_index
from thfr.deploy.model import FolderModel
from thfr.errors import InputError
from thfr.methods import Detector
from thfr.runs.reference import FeatureReference

from .conftest import Brightness, encoded, picture


def test_the_index_by_hand() -> None:
    """Two bins of five of the reference; eight of ten of the last lie in the upper one."""
    index, chance = stability_index(list(range(10)), [0, 1, *[9] * 8])
    p, q = np.array([5.5, 5.5]) / 11, np.array([2.5, 8.5]) / 11
    assert index == pytest.approx(float(((q - p) * np.log(q / p)).sum()))
    assert chance == pytest.approx(6.6349 * 0.2, rel=1e-4)


def test_chance_is_the_share_that_it_says() -> None:
    rng = np.random.default_rng(0)
    above = 0
    for _ in range(400):
        index, chance = stability_index(rng.normal(size=60), rng.normal(size=200))
        above += index > chance
    assert above <= 14  # 4 are expected


def test_a_monitor_says_nothing_too_early_and_forgets() -> None:
    monitor = DriftMonitor([0.1 * n for n in range(50)], None, window=40)
    monitor.add(np.full(FEWEST - 1, 2.0, np.float32), None)
    assert monitor.report() == {"images": FEWEST - 1, "scores": None, "features": None}
    assert "nothing to say yet" in in_words(monitor.report())
    monitor.add(np.full(30, 9.0, np.float32), None)
    assert monitor.report()["scores"]["level"] == "drifted"
    assert "scores drifted (PSI" in in_words(monitor.report())
    monitor.add(np.random.default_rng(0).uniform(0, 4.9, 40).astype(np.float32), None)
    assert monitor.report()["images"] == 40
    assert monitor.report()["scores"]["level"] == "stable"


def test_the_reference_of_features(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    means = rng.normal(size=(40, 8))
    made = FeatureReference.of(means)
    assert made is not None
    new = made.distances(rng.normal(size=(300, 8)))
    assert np.median(made.own_distances) == pytest.approx(np.median(new), rel=0.1)
    made.save(tmp_path)
    held = FeatureReference.load(tmp_path)
    assert held is not None
    np.testing.assert_allclose(held.distances(means), made.distances(means), rtol=1e-4)
    assert FeatureReference.of(means[:2]) is None
    (tmp_path / "reference.json").write_text('{"mean": [1], "spread": [0], "own_distances": []}')
    with pytest.raises(InputError, match=r"FeatureReference\.load: .* is damaged"):
        FeatureReference.load(tmp_path)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("drifting")
    paths = write_images(root / "good", products(40, 0))
    run(small_config("padim", holdout=0.6), paths, root / "run")
    return root / "run"


def test_a_lamp_that_grows_dim(folder: Path) -> None:
    assert Detector.load(folder, "cpu").reference is not None
    model = FolderModel(folder, "cpu")
    images = [image.permute(1, 2, 0).numpy() for image in products(40, 9)]
    model.score(images)
    report = model.drift.report()
    assert report["scores"]["level"] == report["features"]["level"] == "stable"
    for _ in range(5):
        model.score([(image * 0.6).astype(np.uint8) for image in images])
    report = model.drift.report()
    assert report["images"] == 200
    assert report["scores"]["level"] == report["features"]["level"] == "drifted"


def test_a_run_without_a_reference(folder: Path, tmp_path: Path) -> None:
    detector = Detector.load(folder, "cpu")
    detector.reference = None
    (tmp_path / "old").mkdir()
    detector.save(tmp_path / "old")
    model = FolderModel(tmp_path / "old", "cpu")
    model.score([picture(64, 64)] * FEWEST)
    assert model.drift.report()["features"] is None
    assert model.drift.report()["scores"] is not None


def test_models_and_metrics_tell(client_of: Callable[..., Any]) -> None:
    client = client_of(Brightness())
    assert 'thfr_drift_psi{model="plate",of="scores"} NaN' in client.get("/metrics").text
    for _ in range(FEWEST):
        client.post("/v1/inspect", content=encoded(picture(spot=255)))
    (model,) = client.get("/v1/models").json()["models"]
    assert model["drift"]["images"] == FEWEST
    assert model["drift"]["scores"]["psi"] > 0
    assert 'thfr_drift_psi{model="plate",of="scores"} NaN' not in client.get("/metrics").text
