"""Predict: which files appear, what is in them, and what happens with files that cannot be read."""

from __future__ import annotations

import copy
import csv
import json
import os
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from thfr.data import load_dataset
from thfr.data.synth import generate
from thfr.errors import InputError
from thfr.evaluation import open_maps
from thfr.inference import predict, scoring
from thfr.io import read_both, read_image, read_map
from thfr.methods.thfr.detector import THFRDetector
from thfr.predictions.findings import find
from thfr.predictions.judging import Rules, Where
from thfr.predictions.scale import ColourScale
from thfr.predictions.tables import COLUMNS, ImageResult
from thfr.runs.threshold import Threshold

from .conftest import write_image


def files(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def test_a_folder_gives_a_map_and_a_row_for_each_image(detector: THFRDetector, tmp_path: Path) -> None:
    sizes = {"a.png": (40, 56), "line 1/a.png": (64, 64), "line 1/b.jpg": (96, 30)}
    for seed, (name, (height, width)) in enumerate(sizes.items()):
        write_image(tmp_path / "in" / name, height, width, seed)
    out = tmp_path / "out"
    results = predict(detector, tmp_path / "in", out, batch_size=2)

    assert files(out) == {"scores.csv", "scores.json"} | {f"maps/{name}.tiff" for name in sizes}
    alone = {name: detector.score([read_image(tmp_path / "in" / name)]) for name in sizes}
    rows = json.loads((out / "scores.json").read_text())["images"]
    assert [row["file"] for row in rows] == sorted(sizes) == [image.item.name for image in results.images]
    for row in rows:
        assert tuple(row) == COLUMNS
        size = sizes[row["file"]]
        anomaly_map = read_map(out / row["map"])
        assert anomaly_map.dtype == np.float32
        assert anomaly_map.shape == size == (row["height"], row["width"])
        np.testing.assert_allclose(anomaly_map, alone[row["file"]].maps[0], rtol=1e-3, atol=1e-5)
        assert row["score"] == pytest.approx(float(alone[row["file"]].scores[0]), rel=1e-3)
        assert row["max"] == pytest.approx(float(anomaly_map.max()))
        assert row["mean"] == pytest.approx(float(anomaly_map.mean()), rel=1e-5)
        assert row["overlay"] is None
    with (out / "scores.csv").open(newline="") as file:
        table = list(csv.DictReader(file))
    assert [(row["file"], float(row["score"])) for row in table] == [
        (row["file"], row["score"]) for row in rows
    ]


def test_images_with_one_stem_do_not_share_results(detector: THFRDetector, tmp_path: Path) -> None:
    names = ["a.png", "a.jpg", "a.png.png", "b/a.png", "b/a.bmp", "c/a.png"]
    for seed, name in enumerate(names):
        write_image(tmp_path / "in" / name, seed=seed)
    results = predict(detector, tmp_path / "in", tmp_path / "out")
    assert len({image.item.map for image in results.images}) == len(names)
    assert len({image.item.overlay for image in results.images}) == len(names)
    for image in results.images:
        expected = detector.score([read_image(image.item.path)]).maps[0]
        np.testing.assert_allclose(
            read_map(tmp_path / "out" / image.item.map), expected, rtol=1e-3, atol=1e-5
        )


def test_one_image(detector: THFRDetector, tmp_path: Path) -> None:
    image = write_image(tmp_path / "part.png")
    (result,) = predict(detector, image, tmp_path / "out").images
    assert result.item.name == "part.png"
    assert files(tmp_path / "out") == {
        "maps/part.png.tiff", "scores.csv", "scores.json",
    }  # fmt: skip


def test_out_inside_the_source_is_not_predicted_again(detector: THFRDetector, tmp_path: Path) -> None:
    write_image(tmp_path / "a.png")
    for _ in range(2):
        results = predict(detector, tmp_path, tmp_path / "results")
        assert [image.item.name for image in results.images] == ["a.png"]
    with pytest.raises(InputError, match="out must not be the folder of the images"):
        predict(detector, tmp_path, tmp_path)


def test_an_unreadable_image_does_not_stop_the_others(detector: THFRDetector, tmp_path: Path) -> None:
    for seed in range(5):
        write_image(tmp_path / "in" / f"{seed}.png", seed=seed)
    whole = (tmp_path / "in" / "1.png").read_bytes()
    (tmp_path / "in" / "1.png").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "in" / "3.png").write_bytes(b"")
    results = predict(detector, tmp_path / "in", tmp_path / "out", batch_size=2)
    assert list(results.failed) == ["1.png", "3.png"]
    assert all(name in reason for name, reason in results.failed.items())
    found = json.loads((tmp_path / "out" / "scores.json").read_text())
    assert [row["file"] for row in found["images"]] == ["0.png", "2.png", "4.png"]
    assert [row["file"] for row in found["failed"]] == ["1.png", "3.png"]
    assert all((tmp_path / "out" / row["map"]).is_file() for row in found["images"])


def test_nothing_is_written_if_no_image_can_be_read(detector: THFRDetector, tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"not a PNG")
    with pytest.raises(InputError, match=r"predict: 1 image\(s\) cannot be read"):
        predict(detector, tmp_path / "a.png", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def counted(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The images that scoring reads from now on."""
    read: list[Path] = []

    def once(path: Path, *given: Any) -> Any:
        read.append(path)
        return read_both(path, *given)

    monkeypatch.setattr(scoring, "read_both", once)
    return read


def dotted(
    result: ImageResult,
    image: np.ndarray,
    anomaly_map: np.ndarray,
    scale: ColourScale,
    truth: np.ndarray | None,
) -> np.ndarray:
    """The image with a white dot at the map's peak."""
    picture = image.copy()
    picture[np.unravel_index(anomaly_map.argmax(), anomaly_map.shape)] = 255
    return picture


@pytest.mark.parametrize("known", [True, False])
def test_an_image_is_read_once_and_may_go_then(
    known: bool,
    detector: THFRDetector,
    gl_detector: THFRDetector,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Also where the colour scale is only known when all maps are there."""
    paths = [write_image(tmp_path / "in" / f"{seed}.png", seed=seed) for seed in range(5)]
    images = [read_image(path) for path in paths]
    read = counted(monkeypatch)

    def vanishing(result: ImageResult, *given: Any) -> np.ndarray:
        result.item.path.unlink(missing_ok=True)
        return dotted(result, *given)

    used = detector if known else gl_detector
    results = predict(used, tmp_path / "in", tmp_path / "out", draw=vanishing, batch_size=2)
    assert sorted(read) == paths
    assert results.failed == {}
    assert results.scale.from_good == known
    for image, result in zip(images, results.images, strict=True):
        anomaly_map = read_map(tmp_path / "out" / result.item.map)
        expected = dotted(result, image, anomaly_map, results.scale, None)
        np.testing.assert_array_equal(read_image(tmp_path / "out" / str(result.row()["overlay"])), expected)


def test_a_call_that_fails_leaves_no_table_of_an_earlier_one(
    detector: THFRDetector, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_image(tmp_path / "in" / "a.png")
    predict(detector, tmp_path / "in", tmp_path / "out", draw=dotted)
    before = files(tmp_path / "out")

    def full(self: Image.Image, path: Path, **options: object) -> None:
        Path(path).write_bytes(b"half")
        raise OSError("no space left")

    monkeypatch.setattr(Image.Image, "save", full)
    with pytest.raises(OSError, match="no space left"):
        predict(detector, tmp_path / "in", tmp_path / "out", draw=dotted)
    assert files(tmp_path / "out") == before - {"scores.csv", "scores.json"}
    monkeypatch.undo()
    predict(detector, tmp_path / "in", tmp_path / "out")
    (tmp_path / "in" / "a.png").write_bytes(b"")
    with pytest.raises(InputError, match=r"predict: 1 image\(s\) cannot be read"):
        predict(detector, tmp_path / "in", tmp_path / "out")
    assert not {"scores.csv", "scores.json"} & files(tmp_path / "out")


def test_names_that_spreadsheets_and_file_systems_mind(detector: THFRDetector, tmp_path: Path) -> None:
    names = ["=cmd().png", "+1.png", "-a.png", "@b.png", "x" * 251 + ".png", "x" * 250 + "y.png"]
    for name in names:
        write_image(tmp_path / "in" / name)
    odd = Path(os.fsdecode(os.fsencode(tmp_path / "in") + b"/Gr\xf6\xdfe.png"))
    write_image(tmp_path / "in" / "grey.png").rename(odd)
    results = predict(detector, tmp_path / "in", tmp_path / "out", draw=dotted)
    assert results.failed == {}
    assert len(files(tmp_path / "out")) == 2 + 2 * len(results.images) == 16
    with (tmp_path / "out" / "scores.csv").open(newline="", encoding="utf-8") as file:
        cells = [row["file"] for row in csv.DictReader(file)]
    assert [cell for cell in cells if cell.startswith(("=", "+", "-", "@"))] == []
    assert "'=cmd().png" in cells


def test_wrong_sources_and_targets(detector: THFRDetector, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "notes.txt").write_text("x")
    image = write_image(tmp_path / "a.png")
    for source, out, match in [
        (tmp_path / "missing", tmp_path / "out", "does not exist"),
        (tmp_path / "empty", tmp_path / "out", "no image"),
        (tmp_path / "notes.txt", tmp_path / "out", "must be an image"),
        (image, tmp_path / "notes.txt", "out must be a folder"),
    ]:
        with pytest.raises(InputError, match=match):
            predict(detector, source, out)
    with pytest.raises(InputError, match="batch_size"):
        predict(detector, image, tmp_path / "out", batch_size=0)
    assert not (tmp_path / "out").exists()


def test_a_data_set_is_written_in_the_official_tree(detector: THFRDetector, tmp_path: Path) -> None:
    generate(tmp_path / "data", images=2)
    dataset = load_dataset("mvtec_loco", tmp_path / "data")
    results = predict(detector, dataset, tmp_path / "out")
    maps = open_maps(tmp_path / "out", dataset)  # checks that there is exactly one for each image
    assert len(results.images) == len(dataset.test)
    for sample, image in zip(dataset.test, results.images, strict=True):
        assert image.row()["kind"] == sample.kind
        assert maps(sample).shape == (image.height, image.width)


def test_a_folder_data_set_has_nothing_to_test(detector: THFRDetector, tmp_path: Path) -> None:
    write_image(tmp_path / "in" / "a.png")
    with pytest.raises(InputError, match="no test images"):
        predict(detector, load_dataset("folder", tmp_path / "in"), tmp_path / "out")


def test_verdicts_are_the_thresholds(detector: THFRDetector, tmp_path: Path) -> None:
    for seed in range(5):
        write_image(tmp_path / "in" / f"{seed}.png", seed=seed)
    plain = predict(detector, tmp_path / "in", tmp_path / "plain")
    assert [image.verdict for image in plain.images] == [None] * 5
    scores = sorted(image.score for image in plain.images)
    judged = copy.copy(detector)
    judged.threshold = Threshold.from_scores([0.0, scores[2]], 0.01, "images")
    results = predict(judged, tmp_path / "in", tmp_path / "judged")
    expected = ["bad" if image.score > scores[2] else "good" for image in plain.images]
    assert [image.verdict for image in results.images] == expected
    assert expected.count("bad") == 2
    stored = json.loads((tmp_path / "judged" / "scores.json").read_text())
    assert stored["threshold"]["value"] == scores[2]
    assert [row["verdict"] for row in stored["images"]] == expected


def test_findings_and_where_to_look(detector: THFRDetector, tmp_path: Path) -> None:
    for seed in range(3):
        write_image(tmp_path / "in" / f"{seed}.png", 40, 60, seed=seed)
    everywhere = predict(detector, tmp_path / "in", tmp_path / "all")
    judged = copy.copy(detector)
    judged.threshold = Threshold.from_scores([everywhere.images[0].score * 0.7], 0.5, "images")
    left = np.zeros((20, 30), bool)
    left[:, :10] = True
    rules = Rules(min_area=2, pixels_per_mm=4.0, where=Where(region=left))
    found = predict(judged, tmp_path / "in", tmp_path / "left", rules=rules)
    limit = judged.threshold.value
    for before, after in zip(everywhere.images, found.images, strict=True):
        native = read_map(tmp_path / "all" / before.item.map)
        counted = np.where(np.arange(60) < 20, native, native.min())
        np.testing.assert_array_equal(read_map(tmp_path / "left" / after.item.map), counted)
        assert after.score == pytest.approx(float(counted.max()), rel=1e-2)
        assert after.verdict == ("bad" if after.score > limit else "good")
        assert after.findings == tuple(find(counted, limit, min_area=2, pixels_per_mm=4.0))
    assert any(image.findings for image in found.images)
    assert [image.findings for image in everywhere.images] == [None] * 3
    nowhere = Rules(where=Where(region=left, ignore=left))
    with pytest.raises(InputError, match="leave nothing of an image of 60 x 40 pixels"):
        predict(judged, tmp_path / "in", tmp_path / "none", rules=nowhere)


def test_a_disk_without_room_for_the_maps_is_refused_before_anything_is_scored(
    detector: THFRDetector, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(3):
        write_image(tmp_path / "in" / f"{number}.png", 40, 56)
    out = tmp_path / "out"
    predict(detector, tmp_path / "in", out)
    (out / "maps" / "2.png.tiff").unlink()
    module = import_module("thfr.inference.predict")  # the package's attribute is the function
    monkeypatch.setattr(module, "free_bytes", lambda folder: 4 * 40 * 56 - 1)
    before = files(out)
    with pytest.raises(
        InputError, match=r"predict: the maps of 1 images need about 8,960 bytes in .*8,959 are"
    ):
        predict(detector, tmp_path / "in", out)
    assert files(out) == before
