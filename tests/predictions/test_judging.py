"""Masks, rectangles, areas: what counts of an image."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from thfr.errors import InputError
from thfr.predictions.judging import Box, NothingToLookAt, Rules, Where, judge, read_mask

LEFT = np.zeros((10, 14), bool)
LEFT[:, :4] = True  # of an image of 40 x 56: its first 16 columns; the spot is at 20 to 27


def spotted() -> np.ndarray:
    values = np.full((40, 56), 20 / 255, np.float32)
    values[10:18, 20:28] = 1
    return values


@pytest.mark.parametrize(
    ("where", "verdict", "findings"),
    [
        (Where(), "bad", 1),
        (Where(region=LEFT), "good", 0),
        (Where(ignore=LEFT), "bad", 1),
        (Where(ignore=~LEFT), "good", 0),
        (Where(regions=(Box(20, 10, 4, 4),)), "bad", 1),
        (Where(regions=(Box(0, 0, 5, 5), Box(22, 12, 1, 1))), "bad", 1),
        (Where(ignores=(Box(20, 10, 8, 8),)), "good", 0),
        (Where(ignores=(Box(23, -5, 1, 99),)), "bad", 2),  # cut in two
        (Where(region=LEFT, regions=(Box(20, 10, 8, 8), Box(0, 0, 2, 2))), "good", 0),
    ],
)
def test_what_counts(where: Where, verdict: str, findings: int) -> None:
    judged = judge(spotted(), 1.0, 0.5, Rules(where=where))
    assert (judged.verdict, len(judged.findings)) == (verdict, findings)
    assert judged.score == pytest.approx(1.0 if verdict == "bad" else 20 / 255)
    if verdict == "good":
        assert judged.shown.max() == pytest.approx(20 / 255)


def test_a_score_of_its_own_shrinks_by_the_share_of_the_peak() -> None:
    judged = judge(spotted(), 40.0, 5.0, Rules(where=Where(region=LEFT)))
    assert judged.score == pytest.approx(40 * 20 / 255)
    assert judge(spotted(), 40.0, 5.0, Rules(where=Where(ignore=LEFT))).score == 40


def test_nothing_left() -> None:
    with pytest.raises(NothingToLookAt, match="leave nothing of an image of 56 x 40 pixels"):
        judge(spotted(), 1.0, 0.5, Rules(where=Where(regions=(Box(100, 0, 5, 5),))))


def test_mask_files(tmp_path: Path) -> None:
    Image.fromarray(LEFT.astype(np.uint8) * 255).save(tmp_path / "mask.png")
    np.testing.assert_array_equal(read_mask("--region", tmp_path / "mask.png"), LEFT)
    Image.new("L", (5, 5)).save(tmp_path / "black.png")
    with pytest.raises(InputError, match="--region: expected an image with pixels that are not black"):
        read_mask("--region", tmp_path / "black.png")
    with pytest.raises(InputError, match=r"--region: .*absent"):
        read_mask("--region", tmp_path / "absent.png")
