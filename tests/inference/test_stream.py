"""Scores row by row: those of predict, resumed where they broke off, and from a store."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.images import clouds, write_images
from support.methods import run, small_config
from thfr.errors import InputError
from thfr.inference import predict
from thfr.inference import stream as streaming
from thfr.inference.stream import PARTIAL, predict_stream
from thfr.io import read_map
from thfr.methods import Detector
from thfr.predictions.judging import Rules


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("images")
    write_images(folder, clouds(11, 0))
    (folder / "=sum.png").write_bytes(b"no image")
    return folder


@pytest.fixture(scope="module")
def detector(tmp_path_factory: pytest.TempPathFactory) -> Detector[Any]:
    good = write_images(tmp_path_factory.mktemp("good"), clouds(6, 5))
    out = tmp_path_factory.mktemp("run") / "run"
    run(small_config("patchcore", holdout=0.3), good, out)
    return Detector.load(out, "cpu")


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_rows_are_those_of_predict(detector: Detector[Any], images: Path, tmp_path: Path) -> None:
    rules = Rules(min_area=3)
    found = predict_stream(detector, images, tmp_path / "stream", maps=True, rules=rules)
    results = predict(detector, images, tmp_path / "plain", rules=rules)
    assert (found["images"], found["failed"], found["resumed"]) == (11, 1, 0)
    streamed = {row["file"]: row for row in rows(tmp_path / "stream" / "scores.csv")}
    assert len(streamed) == 12
    for one in results.images:
        row = streamed[one.item.name]
        assert (float(row["score"]), row["verdict"]) == (one.score, one.verdict)
        assert one.findings is not None
        assert json.loads(row["findings_json"]) == [finding.as_dict() for finding in one.findings]
        assert int(row["findings"]) == len(one.findings)
        one_map, other = (read_map(tmp_path / place / one.item.map) for place in ("stream", "plain"))
        np.testing.assert_array_equal(one_map, other)
    assert "cannot read" in streamed["'=sum.png"]["error"]
    assert not (tmp_path / "stream" / PARTIAL).exists()
    with pytest.raises(InputError, match=r"scores\.csv is complete"):
        predict_stream(detector, images, tmp_path / "stream")


def test_it_goes_on_behind_the_last_whole_row(
    detector: Detector[Any], images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(streaming, "_AT_ONCE", 4)
    whole = predict_stream(detector, images, tmp_path / "whole")
    score, scored = streaming.score_items, list[str]()

    def counted(*given: Any, **more: Any) -> Any:
        for one in score(*given, **more):
            if len(scored) == 6:
                raise KeyboardInterrupt
            scored.append(one.item.name)
            yield one

    monkeypatch.setattr(streaming, "score_items", counted)
    with pytest.raises(KeyboardInterrupt):
        predict_stream(detector, images, tmp_path / "broken")
    monkeypatch.setattr(streaming, "score_items", score)
    partial = tmp_path / "broken" / PARTIAL
    partial.write_bytes(partial.read_bytes()[:-9])  # in the middle of a row
    with pytest.raises(InputError, match="holds unfinished scores"):
        predict_stream(detector, tmp_path, tmp_path / "broken")
    found = predict_stream(detector, images, tmp_path / "broken")
    assert 0 < found["resumed"] < 11
    assert (found["images"], found["failed"]) == (whole["images"], whole["failed"])
    one, other = (sorted(map(str, rows(tmp_path / place / "scores.csv"))) for place in ("whole", "broken"))
    assert one == other


def test_images_of_a_store(
    detector: Detector[Any], images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fsspec = pytest.importorskip("fsspec", reason="needs thfr-ext[remote]")
    store = fsspec.filesystem("memory")
    for path in images.iterdir():
        store.pipe_file(f"/parts/{path.name}", path.read_bytes())
    found = predict_stream(detector, "memory://parts", tmp_path / "remote")
    assert (found["images"], found["failed"]) == (11, 1)
    predict_stream(detector, images, tmp_path / "local")
    one, other = (
        {r["file"]: r["score"] for r in rows(tmp_path / p / "scores.csv")} for p in ("remote", "local")
    )
    assert one == other
    with pytest.raises(InputError, match="no image"):
        predict_stream(detector, "memory://nothing", tmp_path / "none")
    with pytest.raises(InputError, match="cannot list"):
        predict_stream(detector, "nosuch://a", tmp_path / "none2")
