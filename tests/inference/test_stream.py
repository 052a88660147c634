"""Scores row by row: those of predict, resumed where they broke off, and from a store."""

from __future__ import annotations

import csv
import json
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.images import clouds, write_images
from support.methods import run, small_config
from thfr.errors import InputError
from thfr.inference import predict
from thfr.inference import stream as streaming
from thfr.inference.stream import predict_stream
from thfr.io import read_map
from thfr.methods import Detector
from thfr.predictions.judging import Rules
from thfr.predictions.rows import PARTIAL_CSV


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
    assert not (tmp_path / "stream" / PARTIAL_CSV).exists()
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
    partial = tmp_path / "broken" / PARTIAL_CSV
    partial.write_bytes(partial.read_bytes()[:-9])  # in the middle of a row
    with pytest.raises(InputError, match="holds unfinished scores"):
        predict_stream(detector, tmp_path, tmp_path / "broken")
    found = predict_stream(detector, images, tmp_path / "broken")
    assert 0 < found["resumed"] < 11
    assert (found["images"], found["failed"]) == (whole["images"], whole["failed"])
    one, other = (sorted(map(str, rows(tmp_path / place / "scores.csv"))) for place in ("whole", "broken"))
    assert one == other


def test_parquet_goes_on_and_holds_what_the_csv_holds(
    detector: Detector[Any], images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    parquet = pytest.importorskip("pyarrow.parquet", reason="needs thfr-ext[parquet]")
    monkeypatch.setattr(streaming, "_AT_ONCE", 4)
    predict_stream(detector, images, tmp_path / "csv")
    score, batches = streaming.score_items, list[int]()

    def broken(*given: Any, **more: Any) -> Any:
        batches.append(1)
        if len(batches) == 3:
            raise KeyboardInterrupt
        return score(*given, **more)

    monkeypatch.setattr(streaming, "score_items", broken)
    with pytest.raises(KeyboardInterrupt):
        predict_stream(detector, images, tmp_path / "out", table="parquet")
    monkeypatch.setattr(streaming, "score_items", score)
    with pytest.raises(InputError, match="or of another run or table"):
        predict_stream(detector, images, tmp_path / "out")
    found = predict_stream(detector, images, tmp_path / "out", table="parquet")
    assert (found["images"], found["failed"], found["resumed"]) == (11, 1, 8)
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["scores.parquet"]
    table = {row["file"]: row for row in parquet.read_table(found["scores"]).to_pylist()}
    written = {row["file"].removeprefix("'"): row for row in rows(tmp_path / "csv" / "scores.csv")}
    assert table.keys() == written.keys()
    assert "=sum.png" in table  # no spreadsheet reads it
    for name, row in table.items():
        assert {key: "" if value is None else str(value) for key, value in row.items()} == {
            **written[name],
            "file": name,
        }


def test_images_of_archives(detector: Detector[Any], images: Path, tmp_path: Path) -> None:
    paths = sorted(images.iterdir())
    for number in range(2):
        with tarfile.open(tmp_path / f"part-{number}.tar", "w") as tar:
            for path in paths[number::2]:
                tar.add(path, f"../{path.name}")
    found = predict_stream(detector, tmp_path / "part-*.tar", tmp_path / "out", maps=True)
    predict_stream(detector, images, tmp_path / "plain")
    assert (found["images"], found["failed"]) == (11, 1)
    one = {row["file"].rpartition("/")[2]: row["score"] for row in rows(tmp_path / "out" / "scores.csv")}
    other = {row["file"].removeprefix("'"): row["score"] for row in rows(tmp_path / "plain" / "scores.csv")}
    assert one == other
    assert len(list((tmp_path / "out").rglob("*.tiff"))) == 11
    assert not (tmp_path / "maps").exists()


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
    with tarfile.open(tmp_path / "all.tar", "w") as tar:
        tar.add(images, "in")
    store.pipe_file("/shards/all.tar", (tmp_path / "all.tar").read_bytes())
    found = predict_stream(detector, "memory://shards/*.tar", tmp_path / "archive")
    assert (found["images"], found["failed"]) == (11, 1)
    with pytest.raises(InputError, match="no image"):
        predict_stream(detector, "memory://nothing", tmp_path / "none")
    with pytest.raises(InputError, match="cannot list"):
        predict_stream(detector, "nosuch://a", tmp_path / "none2")
