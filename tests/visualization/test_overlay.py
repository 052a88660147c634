"""Overlays."""

from __future__ import annotations

import numpy as np
import pytest
from thfr.predictions.scale import ColourScale
from thfr.visualization import outlined, overlay
from thfr.visualization.overlay import FINDING_COLOUR, TRUTH_COLOUR

SCALE = ColourScale(0.2, 0.5, 1.1, "a test", True)
IMAGE = np.random.default_rng(0).integers(0, 200, (60, 90, 3), dtype=np.uint8)


def count(picture: np.ndarray, colour: tuple[int, int, int]) -> int:
    return int((picture == colour).all(axis=2).sum())


def test_an_overlay_has_the_image_size_and_leaves_its_inputs_alone() -> None:
    image, anomaly_map = IMAGE.copy(), np.full((60, 90), 0.8, np.float32)
    truth = np.zeros((60, 90), bool)
    truth[10:20, 10:20] = True
    picture = overlay(image, anomaly_map, SCALE, truth)
    assert picture.shape == image.shape
    assert picture.dtype == np.uint8
    np.testing.assert_array_equal(image, IMAGE)
    assert (anomaly_map == np.float32(0.8)).all()


def test_a_good_image_stays_calm_and_a_defect_stands_out() -> None:
    calm = np.full((60, 90), 0.15, np.float32)
    defect = calm.copy()
    defect[20:40, 30:60] = 1.2
    before, after = (overlay(IMAGE, m, SCALE).astype(int) for m in (calm, defect))
    grey = (IMAGE @ np.array([0.299, 0.587, 0.114])).round()
    assert np.abs(before.mean(axis=2) - grey).mean() < 15  # muted, but the same picture
    outside = np.ones((60, 90), bool)
    outside[18:42, 28:62] = False
    np.testing.assert_array_equal(after[outside], before[outside])
    inside = after[24:36, 34:56]
    assert (inside[..., 0] > inside[..., 2] + 50).all()  # bright yellow, whatever is underneath
    assert count(after, FINDING_COLOUR) > 60
    assert count(before, FINDING_COLOUR) == 0


def test_hotter_is_never_darker() -> None:
    black = np.zeros((1, 101, 3), np.uint8)
    ramp = np.linspace(0.2, 1.1, 101, dtype=np.float32)[None]
    quiet = ColourScale(0.2, 1.0999, 1.1, "a test", True)
    lightness = overlay(black, ramp, quiet)[0, :-2] @ np.array([0.299, 0.587, 0.114])
    assert (np.diff(lightness) >= -0.6).all()
    assert lightness[-1] > lightness[0] + 100


def test_outlines_run_inside_the_mask_and_along_the_edge() -> None:
    truth = np.zeros((60, 90), bool)
    truth[0:30, 0:40] = True
    picture = outlined(IMAGE, truth)
    cyan = (picture == TRUTH_COLOUR).all(axis=2)
    assert cyan[0, :40].all()
    assert cyan[:30, 0].all()
    assert not (cyan & ~truth).any()
    np.testing.assert_array_equal(picture[5:25, 5:35], IMAGE[5:25, 5:35])
    np.testing.assert_array_equal(outlined(IMAGE, np.zeros_like(truth)), IMAGE)


def test_lines_of_large_images_are_wider() -> None:
    mask = np.zeros((900, 1200), bool)
    mask[300:600, 300:700] = True
    cyan = (outlined(np.zeros((900, 1200, 3), np.uint8), mask) == TRUTH_COLOUR).all(axis=2)
    assert cyan[300:306, 500].all()
    assert not cyan[306, 500]


@pytest.mark.parametrize(
    ("image", "anomaly_map", "truth", "match"),
    [
        (IMAGE.astype(np.float32), np.zeros((60, 90), np.float32), None, "image must be uint8"),
        (IMAGE[..., 0], np.zeros((60, 90), np.float32), None, "image must be uint8"),
        (IMAGE, np.zeros((90, 60), np.float32), None, "anomaly_map must be float32"),
        (IMAGE, np.zeros((60, 90)), None, "anomaly_map must be float32"),
        (IMAGE, np.zeros((60, 90), np.float32), np.zeros((60, 90), np.uint8), "truth must be bool"),
    ],
)
def test_misfits_are_refused(
    image: np.ndarray, anomaly_map: np.ndarray, truth: np.ndarray | None, match: str
) -> None:
    with pytest.raises(ValueError, match=match):
        overlay(image, anomaly_map, SCALE, truth)
