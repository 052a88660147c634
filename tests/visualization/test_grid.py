"""Pages of pictures in rows and columns."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from thfr.predictions.scale import ColourScale
from thfr.visualization.grid import Grid, Row, write_grid

SCALE = ColourScale(0.1, 0.5, 1.3, "the highest score of 12 good images", True)


def grid(rows: int, size: tuple[int, int] = (40, 40)) -> Grid:
    panel = np.full((*size, 3), (200, 30, 30), np.uint8)
    row = Row("a kind of defect with a long name", "kind/name_of_a_file.png\nscore 1", [panel, None, panel])
    return Grid("A $title$", ["image", "template", "map"], [row] * rows, "A caption. " * 30, SCALE)


def test_a_page_is_the_same_every_time(tmp_path: Path) -> None:
    first, second = (write_grid(tmp_path / name / "page", grid(2)) for name in "ab")
    assert [path.name for path in first] == ["page.png", "page.pdf"]
    assert [path.read_bytes() for path in first] == [path.read_bytes() for path in second]
    with Image.open(first[0]) as picture:
        red = (np.asarray(picture.convert("RGB")) == (200, 30, 30)).all(axis=2)
    assert red.sum() > 4 * 200 * 200  # four panels of more than an inch


@pytest.mark.parametrize("size", [(40, 40), (80, 40), (20, 60)])
def test_no_page_is_higher_than_paper(tmp_path: Path, size: tuple[int, int]) -> None:
    pages = write_grid(tmp_path / "page", grid(12, size), pdf=False)
    assert [path.name for path in pages] == [f"page-{n}.png" for n in range(1, len(pages) + 1)]
    for path in pages:
        with Image.open(path) as picture:
            assert picture.height <= 11 * 200
