"""One model for several categories, from the command line to verdicts."""

from __future__ import annotations

import csv
import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from support.images import products, spotted, write_images
from support.methods import SMALL, small_config
from thfr import THFR
from thfr.cli import main
from thfr.data import JoinedDataset, load_dataset
from thfr.errors import InputError
from thfr.evaluation import evaluate_run
from thfr.inference import predict
from thfr.inference.calibration import calibrate
from thfr.io import read_image
from thfr.methods import Detector
from thfr.methods.common.hooks import observed_features
from thfr.runs.categories import Categories
from thfr.runs.threshold import Threshold
from thfr.training import train

NAMES = ["disc", "hole", "stripes"]


def made(name: str, count: int, seed: int, bad: bool = False) -> torch.Tensor:
    """Images of three products that differ at first sight; ``stripes`` vary much more than the others."""
    images = (spotted if bad else products)(count, seed)
    if name == "hole":
        return 255 - images
    if name == "stripes":
        rng = np.random.default_rng(seed)
        noise = torch.from_numpy(rng.integers(0, 90, images.shape, dtype=np.uint8))
        images = images // 2 + noise
        images[:, :, ::6] = 0
    return images


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("data")
    for seed, name in enumerate(NAMES):
        write_images(root / name / "train" / "good", made(name, 12, 10 * seed))
        write_images(root / name / "test" / "good", made(name, 5, 10 * seed + 1))
        write_images(root / name / "test" / "spot", made(name, 4, 10 * seed + 2, bad=True))
    return root


def arguments(data: Path, out: Path, method: str, *more: str) -> list[str]:
    given = ["train", "--dataset", "folder", "--data", str(data), "--category", *NAMES, "--method", method]
    given += ["--backbone", "tf_efficientnet_lite0", "--size", "64", "--device", "cpu"]
    return [*given, "--out", str(out), *more]


@pytest.fixture(scope="module")
def run(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("runs") / "run"
    assert main(arguments(data, out, "template")) == 0
    return out


def asked(command: list[str], capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    assert main([*command, "--json"]) == 0
    return dict(json.loads(capsys.readouterr().out))


def test_each_image_is_found_and_judged_by_its_own_threshold(
    run: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    images = tmp_path / "images"
    for name in NAMES:
        write_images(images / name, made(name, 3, 77))
        write_images(images / f"{name}-bad", made(name, 3, 78, bad=True))
    values = asked(["predict", str(run), str(images), "--out", str(out), "--device", "cpu"], capsys)
    thresholds = {name: one["value"] for name, one in values["thresholds"].items()}
    assert sorted(thresholds) == NAMES
    assert len(set(thresholds.values())) == len(NAMES)
    assert values["threshold"] is None
    for row in values["images"]:
        assert row["category"] == row["file"].split("/")[0].removesuffix("-bad")
        assert row["verdict"] == ("bad" if row["score"] > thresholds[row["category"]] else "good")
        assert bool(row["findings"]) == (row["max"] > thresholds[row["category"]])
    with (out / "scores.csv").open(newline="") as file:
        assert {row["category"] for row in csv.DictReader(file)} == set(NAMES)
    for name in NAMES:
        assert f"{thresholds[name]:.4g}" in (out / "reports" / f"{name}.html").read_text()
    assert not (out / "report.html").exists()


def test_it_is_the_threshold_of_the_category_found_that_decides(
    run: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    copied = tmp_path / "run"
    shutil.copytree(run, copied)
    detector = Detector.load(copied, "cpu")
    assert detector.categories is not None
    limits = {"disc": 1e6, "hole": -1.0, "stripes": 1e6}
    made_up = {name: Threshold.from_scores([value], 0.5, "made up") for name, value in limits.items()}
    detector.categories.with_thresholds(made_up).save_thresholds(copied)
    out = tmp_path / "out"
    values = asked(["predict", str(copied), str(data), "--out", str(out), "--device", "cpu"], capsys)
    verdicts = {(row["file"].split("/")[0], row["verdict"]) for row in values["images"]}
    assert verdicts == {("disc", "good"), ("hole", "bad"), ("stripes", "good")}
    assert (out / "reports/hole.html").read_text() != (out / "reports/disc.html").read_text()
    found = THFR()
    found.detector_ = Detector.load(copied, "cpu")
    images = [sample.path for name in NAMES for sample in load_dataset("folder", data, name).test]
    for given in (images, np.stack([read_image(path) for path in images])):
        prediction = found.predict(given)
        assert prediction.categories is not None
        assert prediction.verdicts == ["bad" if one == "hole" else "good" for one in prediction.categories]


def test_without_a_threshold_of_its_category_an_image_has_no_verdict(run: Path, data: Path) -> None:
    """And the verdicts of the others stay theirs."""
    estimator = THFR()
    estimator.detector_ = detector = Detector.load(run, "cpu")
    assert detector.categories is not None
    every = detector.categories
    low = Threshold.from_scores([-1.0], 0.5, "made up")
    images = [sample.path for name in NAMES for sample in load_dataset("folder", data, name).test]
    for known, wanted in (({"hole": low}, "bad"), ({}, None)):
        detector.categories = replace(every, thresholds=known)
        prediction = estimator.predict(images)
        assert prediction.categories is not None
        expected = ["bad" if one == "hole" else None for one in prediction.categories]
        assert prediction.verdicts == (expected if wanted else None)


def test_only_our_own_reports_are_replaced(run: Path, data: Path, tmp_path: Path) -> None:
    mine, stale = tmp_path / "report-mine.html", tmp_path / "reports" / "cube.html"
    stale.parent.mkdir()
    for path in (mine, stale):
        path.write_text("kept")
    assert main(["predict", str(run), str(data / "disc" / "test"), "--out", str(tmp_path)]) == 0
    assert mine.read_text() == "kept"
    assert [path.name for path in stale.parent.iterdir()] == ["disc.html"]


@pytest.mark.parametrize("name", ["../disc", "/tmp/disc", "a/b", "..", ""])
def test_a_category_in_a_run_folder_is_no_path(run: Path, tmp_path: Path, name: str) -> None:
    shutil.copytree(run, tmp_path / "run")
    path = tmp_path / "run" / "categories.safetensors"
    keys = load_file(path)
    save_file({name: keys["disc"], "hole": keys["hole"]}, path)
    with pytest.raises(InputError, match=r"categories.safetensors is damaged: expected names"):
        Categories.load(tmp_path / "run")


def test_figures_are_of_each_category_and_their_mean(run: Path, tmp_path: Path) -> None:
    metrics = evaluate_run(run, out=tmp_path / "m.json", maps_out=tmp_path / "maps", device="cpu")
    assert list(metrics["categories"]) == NAMES
    assert sorted(metrics["data"]) == NAMES
    assert metrics["category_accuracy"] == 1.0
    one = metrics["categories"]["hole"]
    assert one["images"] == {"good": 5, "spot": 4}
    assert one["category_accuracy"] == 1.0
    for name in ("image_auroc", "image_f1"):
        of = [metrics["categories"][category][name] for category in NAMES]
        assert metrics["mean"][name] == pytest.approx(sum(of) / 3)
    detector = Detector.load(run, "cpu")
    limit = detector.thresholds["hole"]
    rows = json.loads((tmp_path / "maps" / "hole" / "scores.json").read_text())["images"]
    assert all(row["verdict"] == limit.verdict(row["score"]) for row in rows)
    hits = [row["verdict"] == "bad" for row in rows if row["kind"] == "spot"]
    alarms = [row["verdict"] == "bad" for row in rows if row["kind"] == "good"]
    assert one["image_f1"] == pytest.approx(2 * sum(hits) / (sum(hits) + sum(alarms) + len(hits)))


def test_tables_refuse_its_figures(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    copied = tmp_path / "run"
    shutil.copytree(run, copied)
    evaluate_run(copied, device="cpu")
    assert main(["tables", str(copied), "--out", str(tmp_path / "tables")]) == 2
    assert "expected a run on one category, got one on disc+hole+stripes" in capsys.readouterr().err


def test_who_watches_features_sees_them_all_the_same(run: Path, data: Path) -> None:
    """Finding the category watches features too."""
    image = read_image(data / "disc" / "test" / "good" / "000.png")
    with observed_features() as means:
        Detector.load(run, "cpu").score([image])
    assert [mean.shape[0] for mean in means] == [1]


def test_evaluate_prints_a_column_a_category(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["evaluate", str(run), "--out", str(tmp_path / "m.json"), "--device", "cpu"]) == 0
    told = capsys.readouterr().out
    assert "disc    hole  stripes    mean" in told
    assert "100.0% of all test images" in told


@pytest.mark.parametrize("method", sorted(set(SMALL) - {"draem"}))
def test_every_method_with_a_backbone_finds_the_category(method: str, data: Path, tmp_path: Path) -> None:
    dataset = load_dataset("folder", data, NAMES)
    config = small_config(method, holdout=0.2)
    made_now = train(config, dataset, tmp_path / "run", device="cpu", progress=False)
    loaded = Detector.load(tmp_path / "run", "cpu")
    assert set(loaded.thresholds) == set(NAMES)
    assert loaded.threshold is None
    assert loaded.thresholds == made_now.thresholds
    images = [read_image(sample.path) for sample in dataset.test]
    found = loaded.score(images)
    assert found.categories == [sample.category for sample in dataset.test]
    assert np.array_equal(found.scores, made_now.score(images).scores)


def test_thresholds_are_set_by_each_categorys_own_images(data: Path, tmp_path: Path) -> None:
    dataset = load_dataset("folder", data, NAMES)
    detector = train(
        small_config("patchcore", holdout=0.25), dataset, tmp_path / "run", device="cpu", progress=False
    )
    assert {name: len(one.scores) for name, one in detector.thresholds.items()} == dict.fromkeys(NAMES, 3)


def test_tiles_are_told_apart_as_whole_images(data: Path, tmp_path: Path) -> None:
    config = small_config("patchcore", holdout=0.25)
    config = config.model_copy(update={"model": config.model.model_copy(update={"tiles": (1, 2)})})
    dataset = load_dataset("folder", data, NAMES)
    detector = train(config, dataset, tmp_path / "run", device="cpu", progress=False)
    assert detector.categories is not None
    assert {len(rows) for rows in detector.categories.keys.values()} == {9}
    found = detector.score([read_image(sample.path) for sample in dataset.test])
    assert found.categories == [sample.category for sample in dataset.test]


def test_one_threshold_is_set_anew_and_a_rate_for_all(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    copied = tmp_path / "run"
    shutil.copytree(run, copied)
    before = Detector.load(copied, "cpu").thresholds
    write_images(tmp_path / "more", made("hole", 6, 55))
    values = asked(
        ["calibrate", str(copied), str(tmp_path / "more"), "--category", "hole", "--device", "cpu"], capsys
    )
    after = Detector.load(copied, "cpu").thresholds
    assert len(after["hole"].scores) == 6
    assert values["thresholds"]["hole"]["value"] == after["hole"].value
    assert after["disc"] == before["disc"]
    assert after["stripes"] == before["stripes"]
    assert main(["calibrate", str(copied), "--false-alarm-rate", "0.5"]) == 0
    wanted = {name: Threshold.from_scores(one.scores, 0.5, one.source) for name, one in after.items()}
    assert Detector.load(copied, "cpu").thresholds == wanted


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ([], "category: needed with images of a run on several"),
        (["--category", "cube"], "expected one of disc, hole, stripes, got cube"),
    ],
)
def test_calibrate_needs_to_know_whose_images_they_are(
    more: list[str], said: str, run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_images(tmp_path / "more", made("hole", 2, 55))
    assert main(["calibrate", str(run), str(tmp_path / "more"), "--device", "cpu", *more]) == 2
    assert said in capsys.readouterr().err


def test_thresholds_come_one_after_the_other(data: Path, tmp_path: Path) -> None:
    """Until its category has one, an image has no verdict, and there is no F1 at thresholds."""
    dataset = load_dataset("folder", data, NAMES)
    out = tmp_path / "run"
    assert not train(small_config("patchcore"), dataset, out, device="cpu", progress=False).thresholds
    for number, name in enumerate(NAMES):
        found = calibrate(out, data / name / "test" / "good", category=name, device="cpu")
        assert not isinstance(found, Threshold)
        assert list(found) == NAMES[: number + 1]
        results = predict(out, data / "stripes" / "test", tmp_path / name, device="cpu")
        assert {image.verdict is None for image in results.images} == {name != "stripes"}
        metrics = evaluate_run(out, device="cpu")
        assert (metrics["mean"]["image_f1"] is None) == (name != "stripes")


def test_streamed_rows_name_the_category(run: Path, data: Path, tmp_path: Path) -> None:
    command = ["predict", str(run), str(data / "hole" / "test"), "--stream", "--device", "cpu"]
    assert main([*command, "--out", str(tmp_path / "out")]) == 0
    with (tmp_path / "out" / "scores.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    limit = Detector.load(run, "cpu").thresholds["hole"]
    assert len(rows) == 9
    assert {row["category"] for row in rows} == {"hole"}
    assert all(row["verdict"] == limit.verdict(float(row["score"])) for row in rows)


@pytest.mark.parametrize(
    "command",
    [
        ["export", "RUN", "--out", "OUT"],
        ["teach", "RUN", "GOOD", "--out", "OUT"],
        ["watch", "RUN", "GOOD", "--out", "OUT", "--once"],
        ["report", "RUN"],
        ["gallery", "RUN"],
    ],
    ids=lambda command: command[0],
)
def test_commands_that_know_one_threshold_refuse(
    command: list[str], run: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    places = {"RUN": str(run), "OUT": str(tmp_path / "out"), "GOOD": str(data / "hole" / "train" / "good")}
    assert main([places.get(word, word) for word in command]) == 2
    told = capsys.readouterr().err
    assert "expected a run on one category, got one on disc, hole, stripes" in told


def test_serve_refuses(run: Path) -> None:
    from thfr.deploy.model import FolderModel

    with pytest.raises(InputError, match="expected a run on one category"):
        FolderModel(run, "cpu")


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (["disc", "disc"], "expected two different names or more, got disc twice"),
        (["disc", "cube"], "no category 'cube'"),
    ],
)
def test_wrong_names(
    names: list[str], said: str, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = [
        "train",
        "--dataset",
        "folder",
        "--data",
        str(data),
        "--out",
        str(tmp_path / "run"),
        "--category",
    ]
    assert main([*command, *names]) == 2
    assert said in capsys.readouterr().err


def test_a_category_without_an_image_for_its_threshold(data: Path, tmp_path: Path) -> None:
    parts = [load_dataset("folder", data, name) for name in ("disc", "hole")]
    dataset = JoinedDataset.of([replace(parts[0], validation=parts[0].test[:1]), parts[1]])
    with pytest.raises(InputError, match=r"no good image to set the threshold of hole by"):
        train(small_config("patchcore"), dataset, tmp_path / "run", device="cpu", progress=False)


def test_without_a_backbone_nothing_tells_them_apart(data: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="DRAEM uses no backbone"):
        train(small_config("draem"), load_dataset("folder", data, NAMES), tmp_path / "run", device="cpu")


def test_a_damaged_table_of_categories_is_refused(run: Path, tmp_path: Path) -> None:
    copied = tmp_path / "run"
    shutil.copytree(run, copied)
    held = json.loads((copied / "thresholds.json").read_text())
    held["categories"]["cube"] = held["categories"].pop("hole")
    (copied / "thresholds.json").write_text(json.dumps(held))
    with pytest.raises(InputError, match=r"thresholds.json is damaged: expected thresholds of disc, hole"):
        Detector.load(copied, "cpu")
    (copied / "categories.safetensors").unlink()
    with pytest.raises(InputError, match=r"categories.safetensors is missing"):
        Detector.load(copied, "cpu")


def test_a_run_on_one_category_has_no_files_of_several(data: Path, tmp_path: Path) -> None:
    detector = train(
        small_config("template"),
        load_dataset("folder", data, "disc"),
        tmp_path / "run",
        device="cpu",
        progress=False,
    )
    assert not {"categories.safetensors", "thresholds.json"} & {
        path.name for path in (tmp_path / "run").iterdir()
    }
    assert detector.categories is None
    assert detector.threshold is not None
    assert detector.thresholds == {}
    assert detector.score([read_image(data / "disc" / "test" / "good" / "000.png")]).categories is None
