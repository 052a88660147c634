"""Scores and maps on disk: what is written is read, what is old is invalid, what is a formula is not."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from thfr.errors import InputError
from thfr.io import csv_cell, read_map
from thfr.predictions import files
from thfr.predictions.findings import find
from thfr.predictions.scale import ColourScale
from thfr.predictions.sources import Item
from thfr.predictions.tables import COLUMNS, FINDING_COLUMNS, ResultsWriter, read_scores
from thfr.runs.threshold import Threshold

SCALE = ColourScale(0.1, 0.5, 1.5, "images", True)


def item(name: str) -> Item:
    return Item(Path(name), name, f"maps/{name}.tiff", f"overlays/{name}.png")


def anomaly_map(peak: float) -> np.ndarray:
    values = np.zeros((4, 6), np.float32)
    values[1, 2] = peak
    return values


def test_what_is_written_is_read(tmp_path: Path) -> None:
    threshold = Threshold.from_scores([0.4, 0.6], 0.1, "images")
    writer = ResultsWriter(tmp_path, threshold, SCALE)
    for name, score in (("b.png", 0.5), ("a.png", 0.7)):
        writer.add(item(name), anomaly_map(score), score)
    writer.failed["c.png"] = "broken"
    results = writer.finish({"run": "x"}, frozenset({"a.png"}))
    assert [image.verdict for image in results.images] == ["good", "bad"]
    stored = read_scores(tmp_path)
    assert stored is not None
    assert stored.scores == {"b.png": 0.5, "a.png": 0.7}
    assert stored.source == {"run": "x"}
    assert stored.scale == results.scale
    assert (results.scale.low, results.scale.threshold) == (SCALE.low, threshold.value)
    np.testing.assert_array_equal(read_map(stored.maps["a.png"]), anomaly_map(0.7))
    values = json.loads((tmp_path / files.SCORES_JSON).read_text())
    assert values == json.loads(json.dumps({**results.as_dict(), "source": {"run": "x"}}))
    assert values["failed"] == [{"file": "c.png", "error": "broken"}]
    assert [row["overlay"] for row in values["images"]] == [None, "overlays/a.png.png"]
    with (tmp_path / files.SCORES_CSV).open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [tuple(row) for row in rows] == [COLUMNS] * 2
    assert [float(row["score"]) for row in rows] == [0.5, 0.7]


def test_findings_are_rows_of_their_own(tmp_path: Path) -> None:
    writer = ResultsWriter(tmp_path, Threshold.from_scores([0.5], 0.5, "images"), SCALE)
    for name, peak in (("=bad.png", 0.7), ("good.png", 0.4)):
        values = anomaly_map(peak)
        writer.add(item(name), values, peak, findings=find(values, 0.5, pixels_per_mm=2.0))
    results = writer.finish()
    with (tmp_path / files.FINDINGS_CSV).open(newline="") as file:
        (row,) = csv.DictReader(file)
    assert tuple(row) == FINDING_COLUMNS
    assert (row["file"], row["finding"], row["x"], row["y"], row["area"]) == ("'=bad.png", "1", "2", "1", "1")
    assert (float(row["peak"]), float(row["area_mm2"])) == (pytest.approx(0.7), 0.25)
    listed = json.loads((tmp_path / files.SCORES_JSON).read_text())["images"]
    assert [[found["area"] for found in one["findings"]] for one in listed] == [[1], []]
    with (tmp_path / files.SCORES_CSV).open(newline="") as file:
        assert [one["findings"] for one in csv.DictReader(file)] == ["1", "0"]
    assert results.images[0].findings == tuple(find(anomaly_map(0.7), 0.5, pixels_per_mm=2.0))
    ResultsWriter(tmp_path, None, SCALE).finish()  # nobody asked for them
    assert not (tmp_path / files.FINDINGS_CSV).exists()


def test_older_tables_are_gone_before_the_first_map(tmp_path: Path) -> None:
    ResultsWriter(tmp_path, None, SCALE).finish()
    (tmp_path / files.REPORT).write_text("<html>")
    assert read_scores(tmp_path) is not None
    ResultsWriter(tmp_path, None, SCALE)
    assert list(tmp_path.iterdir()) == []
    assert read_scores(tmp_path) is None
    (tmp_path / files.SCORES_JSON).mkdir()
    with pytest.raises(InputError, match=r"cannot replace .*scores\.json"):
        ResultsWriter(tmp_path, None, SCALE)


def test_without_a_scale_it_is_that_of_the_maps(tmp_path: Path) -> None:
    writer = ResultsWriter(tmp_path, None, None)
    for peak in (1.0, 3.0):
        writer.add(item(f"{peak}.png"), anomaly_map(peak), peak)
    scale = writer.finish().scale
    assert (scale.low, scale.threshold, scale.high, scale.from_good) == (0.0, 1.5, 3.0, False)
    with pytest.raises(InputError, match="at least one anomaly map"):
        ResultsWriter(tmp_path / "none", None, None).finish()


@pytest.mark.parametrize("content", ["{", "[]", "{}", '{"images": 3}', '{"images": [{}], "scale": {}}'])
def test_damaged_scores_are_none(content: str, tmp_path: Path) -> None:
    (tmp_path / files.SCORES_JSON).write_text(content)
    assert read_scores(tmp_path) is None


@pytest.mark.parametrize("text", ["=cmd()", "+1", "-1", "@x", "\tx", "\rx"])
def test_formulas_are_texts(text: str) -> None:
    assert csv_cell(text) == f"'{text}"


@pytest.mark.parametrize("value", ["a=b", "good/1.png", "", None, -1.5])
def test_other_cells_are_as_they_are(value: object) -> None:
    assert csv_cell(value) == value
