"""Findings of hand-made maps."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from thfr.errors import InputError
from thfr.predictions.findings import Finding, find


def plain(height: int = 10, width: int = 20) -> np.ndarray:
    return np.zeros((height, width), np.float32)


def test_one_rectangle() -> None:
    values = plain()
    values[2:5, 7:12] = 2
    values[3, 10] = 5
    assert find(values, 1.0) == [
        Finding(
            x=7, y=2, width=5, height=3, area=15, peak=5.0, peak_x=10, peak_y=3,
            mean=pytest.approx(33 / 15), centre_x=9.0, centre_y=3.0,
        )
    ]  # fmt: skip


def test_a_value_at_the_limit_is_no_finding() -> None:
    values = plain()
    values[1, 1] = 1
    assert find(values, 1.0) == []
    assert len(find(values, np.nextafter(np.float32(1), np.float32(0)))) == 1


def test_diagonal_neighbours_are_one_and_the_highest_comes_first() -> None:
    values = plain()
    values[0, 0] = values[1, 1] = 2
    values[5, 5], values[9, 19] = 4, 3
    found = find(values, 1.0)
    assert [(finding.peak, finding.area) for finding in found] == [(4, 1), (3, 1), (2, 2)]
    assert (found[2].peak_x, found[2].peak_y) == (0, 0)
    assert (found[1].x, found[1].y) == (19, 9)


def test_peak_and_mean_are_of_the_component_not_of_its_box() -> None:
    values = plain()
    values[0, :6] = values[:6, 0] = 2  # an L whose box holds another component
    values[4, 4] = 9
    found = find(values, 1.0)
    assert [(finding.peak, finding.mean, finding.area) for finding in found] == [(9, 9, 1), (2, 2, 11)]


def test_small_components_are_left_out() -> None:
    values = plain()
    values[0, 0] = 9
    values[4, 4:8] = 2
    assert [finding.area for finding in find(values, 1.0, min_area=4)] == [4]
    assert find(values, 1.0, min_area=5) == []


def test_region_and_ignore() -> None:
    values = plain()
    values[4, 2:18] = 2
    region = np.ones_like(values, bool)
    region[:, :5] = False
    ignore = np.zeros_like(values, bool)
    ignore[:, 10] = True
    boxes = [(finding.x, finding.width) for finding in find(values, 1.0, region=region, ignore=ignore)]
    assert boxes == [(5, 5), (11, 7)]
    assert find(values, 1.0, region=~(values > 1)) == []


def test_millimetres() -> None:
    values = plain()
    values[2:4, 2:7] = 2
    (finding,) = find(values, 1.0, pixels_per_mm=4)
    assert (finding.width_mm, finding.height_mm, finding.area_mm2) == (1.25, 0.5, 0.625)
    (finding,) = find(values, 1.0)
    assert finding.as_dict()["area_mm2"] is None


def test_negative_maps_keep_their_peak() -> None:
    values = plain() - 10
    values[1, 1:3] = -2
    (finding,) = find(values, -5.0)
    assert (finding.peak, finding.mean, finding.area) == (-2, -2, 2)


@pytest.mark.parametrize(
    ("values", "changes", "message"),
    [
        (np.zeros((2, 3, 4), np.float32), {}, "anomaly_map: expected an array"),
        (np.zeros((2, 3), np.uint8), {}, "got uint8"),
        (np.full((2, 3), np.nan, np.float32), {}, "got a NaN"),
        (plain(), {"threshold": float("inf")}, "threshold: expected a finite number, got inf"),
        (plain(), {"min_area": 0}, "min_area: expected at least 1"),
        (plain(), {"pixels_per_mm": 0.0}, "pixels_per_mm: expected a positive number, got 0.0"),
        (plain(), {"region": np.ones((2, 2), bool)}, r"region: expected bool \[10, 20\]"),
        (plain(), {"ignore": np.ones((10, 20), np.uint8)}, r"ignore: expected bool .* got uint8"),
    ],
)
def test_errors(values: np.ndarray, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=f"^find: .*{message}"):
        find(values, **{"threshold": 1.0, **changes})
