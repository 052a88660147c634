"""The limit on the image score: its guarantee by simulation, its file, and what it refuses."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from thfr.errors import InputError
from thfr.runs import files
from thfr.runs.threshold import Threshold


@pytest.mark.parametrize("count", [5, 19, 20, 27, 300])
@pytest.mark.parametrize("rate", [0.01, 0.05, 0.3, 0.95])
def test_the_rate_it_promises_is_the_rate_of_new_images(count: int, rate: float) -> None:
    rng = np.random.default_rng(count)
    trials, alarms, above_bound, expected = 4000, 0, 0, 0.0
    for _ in range(trials):
        threshold = Threshold.from_scores(rng.exponential(size=count).tolist(), rate, "images")
        true_rate = float(np.exp(-threshold.value))  # of an exponential variable
        alarms += threshold.verdict(rng.exponential()) == "bad"
        above_bound += true_rate > threshold.rate_bound
        expected = threshold.expected_rate
    assert expected <= rate or expected == pytest.approx(1 / (count + 1))
    assert expected > rate - 1 / (count + 1)
    assert alarms / trials == pytest.approx(expected, abs=4 * (0.25 / trials) ** 0.5)
    assert above_bound / trials == pytest.approx(0.05, abs=4 * (0.05 * 0.95 / trials) ** 0.5)


def test_it_is_one_of_the_scores_and_an_equal_score_is_good() -> None:
    threshold = Threshold.from_scores([3.0, 1.0, 2.0, 4.0], 0.4, "images")
    assert threshold.value == 3.0  # 5 * 0.6 = 3: the third of four
    assert threshold.expected_rate == pytest.approx(0.4)
    assert not threshold.falls_short
    assert threshold.verdict(3.0) == "good"
    assert threshold.verdict(np.nextafter(3.0, 4.0)) == "bad"
    assert Threshold.from_scores([1.0, 2.0], 0.01, "images").falls_short


def test_file_round_trip_and_damage(tmp_path: Path) -> None:
    assert Threshold.load(tmp_path) is None
    threshold = Threshold.from_scores([0.5, 0.25, 0.125], 0.3, "made-up images")
    threshold.save(tmp_path)
    assert Threshold.load(tmp_path) == threshold
    path = tmp_path / files.THRESHOLD
    held = json.loads(path.read_text())
    path.write_text(json.dumps({**held, "value": 0.25}))
    with pytest.raises(InputError, match="does not fit its own scores"):
        Threshold.load(tmp_path)
    for damage in ("", "{}", json.dumps({**held, "scores": ["a"]})):
        path.write_text(damage)
        with pytest.raises(InputError, match=r"Threshold\.load: .*threshold\.json cannot be read"):
            Threshold.load(tmp_path)


@pytest.mark.parametrize("rate", [0.0, 1.0, -0.1, float("nan")])
def test_rates_outside_are_refused(rate: float) -> None:
    with pytest.raises(InputError, match="rate: expected a share"):
        Threshold.from_scores([1.0], rate, "images")


@pytest.mark.parametrize("scores", [[], [float("nan")], [1.0, float("inf")]])
def test_scores_that_are_none_are_refused(scores: list[float]) -> None:
    with pytest.raises(InputError, match="scores: expected finite scores"):
        Threshold.from_scores(scores, 0.1, "images")
