"""Exported rectangles, letterboxes, tiles and regions say what the run says, on images of any size."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from support import toy_method
from support.exporting import exporting
from support.methods import small_config
from thfr.deploy.export.run import export_run
from thfr.deploy.exported import load
from thfr.methods.registry import config_from_values
from thfr.training import train

from .conftest import pictures

CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "rectangular tiles and a region": ("toy", {"size": "64x96", "tiles": "2x1"}),
    "letterbox and region": ("toy", {"size": 64, "fit": "letterbox"}),
}


@pytest.fixture(autouse=True)
def toy() -> Iterator[None]:
    with toy_method.registered():
        yield


@exporting
@pytest.mark.parametrize("case", CASES)
def test_an_export_follows_the_geometry(case: str, good_folder: Path, tmp_path: Path) -> None:
    method, geometry = CASES[case]
    inside = np.zeros((80, 100), dtype=bool)
    inside[10:75, 5:80] = True
    Image.fromarray(inside).save(tmp_path / "roi.png")
    values = small_config(method, holdout=0.3).model_dump(mode="json")
    values["model"] |= geometry
    detector = train(
        config_from_values(values),
        sorted(good_folder.iterdir()),
        tmp_path / "run",
        roi=tmp_path / "roi.png",
        progress=False,
        device="cpu",
    )
    found = export_run(tmp_path / "run", tmp_path / "out", "torch", good_folder)
    assert found["parity"]["passed"]
    model = load(tmp_path / "out")
    assert model.size == detector.size
    images = [*pictures(2), pictures(1, 60, 120)[0], pictures(1, 130, 70)[0]]
    for image in images[1:]:
        image[30:44, 30:44] = 255
    ours, theirs = detector.score(images), model.score(images)
    np.testing.assert_allclose(theirs.scores, ours.scores, rtol=2e-4)
    for mine, other, image in zip(ours.maps, theirs.maps, images, strict=True):
        assert other.shape == image.shape[:2]
        np.testing.assert_allclose(other, mine, atol=2e-3 * mine.max())
    assert theirs.scores[1] > 1.2 * theirs.scores[0]
    row, column = np.unravel_index(theirs.maps[1].argmax(), theirs.maps[1].shape)
    assert 20 <= row < 54
    assert 20 <= column < 54
