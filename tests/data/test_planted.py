"""Anomalies planted into good images: where they are said to be, and nowhere else."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage
from thfr.data.planted import LEAST_CHANGE, PLANTED, plant, plant_all
from thfr.errors import InputError


def picture(seed: int, size: int = 64) -> np.ndarray:
    """Smooth coloured noise: every part differs from every other."""
    noise = np.random.default_rng(seed).normal(size=(size, size, 3))
    smooth = ndimage.gaussian_filter(noise, (3, 3, 0))
    return (128 + 60 * smooth / smooth.std()).clip(0, 255).astype(np.uint8)


@pytest.mark.parametrize("kind", PLANTED)
@pytest.mark.parametrize("seed", range(8))
def test_changes_lie_where_the_mask_says(kind: str, seed: int) -> None:
    image = picture(seed)
    result, mask = plant(image, picture(100 + seed), kind, seed)
    assert result.dtype == np.uint8
    assert result.shape == image.shape
    change = np.abs(result.astype(float) - image).mean(axis=2)
    assert 4 <= mask.sum() < 0.4 * mask.size
    assert change[mask].mean() > LEAST_CHANGE / 2
    assert change[~ndimage.binary_dilation(mask, iterations=6)].max() <= 1
    again, same = plant(image, picture(100 + seed), kind, seed)
    assert np.array_equal(again, result)
    assert np.array_equal(same, mask)
    assert not np.array_equal(plant(image, picture(100 + seed), kind, seed + 1)[0], result)


def test_a_part_exchanged_for_an_equal_one_is_drawn_anew() -> None:
    """The other image differs in one corner only: that is what has to be exchanged."""
    image = picture(0)
    other = image.copy()
    other[:24, :24] = 255 - other[:24, :24]
    for seed in range(10):
        result, mask = plant(image, other, "exchanged", seed)
        assert np.abs(result.astype(float) - image)[mask].mean() >= LEAST_CHANGE


def test_images_that_do_not_differ_still_give_a_result() -> None:
    image = picture(0)
    result, _ = plant(image, image, "exchanged", 0)
    assert np.array_equal(result, image)


def test_every_kind_of_every_image() -> None:
    images = [picture(seed) for seed in range(3)]
    planted, masks, kinds = plant_all(images)
    assert kinds == [kind for kind in PLANTED for _ in images]
    assert len(planted) == len(masks) == len(kinds)


@pytest.mark.parametrize(
    ("image", "other", "kind", "message"),
    [
        (picture(0), picture(1), "melted", "kind: expected one of exchanged, added"),
        (picture(0), picture(1, 48), "added", "other: expected uint8"),
        (picture(0).astype(float), picture(1), "added", "image: expected uint8"),
        (picture(0, 16), picture(1, 16), "added", "at least 32"),
    ],
)
def test_wrong_arguments_are_named(image: np.ndarray, other: np.ndarray, kind: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        plant(image, other, kind, 0)
    with pytest.raises(InputError, match="at least two good images, got 1"):
        plant_all([picture(0)])


@pytest.mark.parametrize("kind", PLANTED)
def test_an_anomaly_keeps_to_where_it_may_be(kind: str) -> None:
    place = np.zeros((64, 64), dtype=bool)
    place[20:30, 40:50] = np.eye(10, dtype=bool)[::-1] | np.eye(10, dtype=bool)
    for seed in range(4):
        image = picture(seed)
        result, mask = plant(image, picture(100 + seed), kind, seed, place)
        assert mask.any()
        assert not (mask & ~place).any()
        assert np.array_equal(result[~place], image[~place])
    with pytest.raises(InputError, match=r"plant: inside: no room"):
        plant(image, picture(1), kind, 0, np.zeros_like(place))
