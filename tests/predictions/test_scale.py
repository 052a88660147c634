"""The colour scale: of good maps, of mixed ones, on disk."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from thfr.errors import InputError
from thfr.predictions.scale import ColourScale, ScaleBuilder
from thfr.runs import files


def test_it_is_stored_in_a_run(tmp_path: Path) -> None:
    assert ColourScale.load(tmp_path) is None
    scale = ColourScale(0.25, 0.5, 1.0, "images", True)
    scale.save(tmp_path)
    assert ColourScale.load(tmp_path) == scale


@pytest.mark.parametrize(
    "content", ["{", "{}", '{"low": "x", "threshold": 1, "high": 2, "source": "", "from_good": true}',
    '{"low": 2, "threshold": 1, "high": 2, "source": "", "from_good": true}'],
)  # fmt: skip
def test_a_damaged_one_names_its_file(content: str, tmp_path: Path) -> None:
    (tmp_path / files.SCALE).write_text(content)
    with pytest.raises(InputError, match=r"^ColourScale: .*scale\.json"):
        ColourScale.load(tmp_path)


def test_the_scale_of_good_images_is_set_by_their_highest_peak() -> None:
    maps = [np.full((10, 10), 0.1, np.float32) for _ in range(5)]
    for index, anomaly_map in enumerate(maps):
        anomaly_map[5, 5] = 0.2 + 0.05 * index
    scale = ScaleBuilder(iter(maps)).from_good("five maps")
    assert scale.low == pytest.approx(0.1)
    assert scale.threshold == pytest.approx(0.4)
    assert scale.high == pytest.approx(0.85)
    assert (scale.source, scale.from_good) == ("five maps", True)


def test_one_outlier_of_many_good_images_does_not_set_the_scale() -> None:
    builder = ScaleBuilder()
    for index in range(300):
        anomaly_map = np.full((4, 4), 0.1, np.float32)
        anomaly_map[0, 0] = 9.0 if index == 7 else 0.3
        builder.add(anomaly_map)
    assert builder.from_good("x").threshold == pytest.approx(0.3)


def test_the_scale_of_a_mixed_set_spans_it() -> None:
    maps = [np.full((10, 10), 0.1, np.float32), np.full((10, 10), 0.1, np.float32)]
    maps[1][:2] = 0.9
    scale = ScaleBuilder(maps).from_mixed("two maps")
    assert (scale.low, scale.high) == (pytest.approx(0.1), pytest.approx(0.9))
    assert scale.threshold == pytest.approx(0.5)
    assert not scale.from_good


@pytest.mark.parametrize("value", [0.0, -3.0, 1e6])
def test_constant_maps_still_have_a_scale(value: float) -> None:
    for good in (True, False):
        builder = ScaleBuilder([np.full((8, 8), value, np.float32)])
        scale = builder.from_good("x") if good else builder.from_mixed("x")
        assert (scale.relative(np.full((8, 8), value, np.float32)) == 0).all()


def test_no_map_and_a_wrong_order_are_refused() -> None:
    with pytest.raises(InputError, match="at least one anomaly map"):
        ScaleBuilder([]).from_good("x")
    with pytest.raises(InputError, match="low < threshold < high"):
        ColourScale(0.5, 0.2, 1.0, "x", True)
    with pytest.raises(InputError, match="finite"):
        ColourScale(0.0, 0.5, float("nan"), "x", True)
