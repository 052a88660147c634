"""What `thfr predict` writes: pictures and a page beside the scores."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from thfr.inference import scoring
from thfr.io import read_image, read_map
from thfr.methods import Detector
from thfr.visualization import inspect, inspection, overlay

from .conftest import Study
from .test_report import parsed


@pytest.fixture(scope="module")
def detector(study: Study) -> Detector:
    return study.detector("thfr")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Five images of noise."""
    (tmp_path / "in").mkdir()
    for seed in range(5):
        pixels = np.random.default_rng(seed).integers(0, 256, (40, 56, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / "in" / f"{seed}.png")
    return tmp_path / "in"


def test_a_picture_an_image_and_a_page(detector: Detector, folder: Path, tmp_path: Path) -> None:
    results = inspect(detector, folder, tmp_path / "out", batch_size=2)
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        "findings.csv", "maps", "overlays", "report.html", "scores.csv", "scores.json",
    }  # fmt: skip
    for image in results.images:
        row = image.row()
        expected = overlay(read_image(image.item.path), read_map(results.out / row["map"]), results.scale)
        np.testing.assert_array_equal(read_image(results.out / row["overlay"]), expected)
    text = " ".join(parsed(tmp_path / "out" / "report.html").text)
    assert all(f"{seed}.png" in text for seed in range(5))


def test_nothing_is_read_twice_for_the_page(
    detector: Detector, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The page shows the highest scores; their images may be gone when it is written."""
    monkeypatch.setattr(inspection, "_REPORTED", 3)
    score = detector.score

    def then_remove(images: Any, batch_size: int = 8) -> Any:
        found = score(images, batch_size)
        for path in folder.iterdir():
            path.unlink()
        return found

    monkeypatch.setattr(detector, "score", then_remove)
    monkeypatch.setattr(scoring, "_AHEAD", 9)
    results = inspect(detector, folder, tmp_path / "out")
    assert results.failed == {}
    page = parsed(tmp_path / "out" / "report.html")
    shown = [value for tag, name, value in page.attributes if (tag, name) == ("article", "data-name")]
    best = sorted(results.images, key=lambda image: -image.score)[:3]
    assert sorted(shown) == sorted(image.item.name for image in best)


def test_the_ground_truth_is_outlined(study: Study, detector: Detector, tmp_path: Path) -> None:
    results = inspect(detector, study.dataset, tmp_path / "out")
    assert not (tmp_path / "out" / "report.html").exists()
    for image in results.images:
        picture = read_image(results.out / image.item.overlay)
        cyan = int((picture == (0, 229, 255)).all(axis=2).sum())
        assert image.item.sample is not None
        assert (cyan > 20) == image.item.sample.is_anomalous


def test_a_broken_mask_is_one_entry_in_failed(study: Study, detector: Detector, tmp_path: Path) -> None:
    dataset = study.dataset
    broken = next(sample for sample in dataset.test if sample.is_anomalous)
    kept = broken.mask_paths[0].read_bytes()
    broken.mask_paths[0].write_bytes(b"")
    try:
        results = inspect(detector, dataset, tmp_path / "out")
    finally:
        broken.mask_paths[0].write_bytes(kept)
    assert list(results.failed) == [f"{broken.kind}/{broken.path.name}"]
    assert len(results.images) == len(dataset.test)
    assert all((results.out / image.item.overlay).is_file() for image in results.images)
