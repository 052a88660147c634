"""Images as cameras deliver them, end to end: trained on, predicted, evaluated, reported."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from PIL import Image
from support.methods import small_config
from thfr.cli import main
from thfr.data import load_dataset
from thfr.errors import InputError
from thfr.evaluation import evaluate_run
from thfr.inference import calibrate, predict, scoring
from thfr.inference.scoring import stored_scores
from thfr.io import PixelRange
from thfr.methods import Detector
from thfr.runs import files
from thfr.runs.inputs import RunInputs
from thfr.training import train
from thfr.visualization.inspection import inspect
from thfr.visualization.run_report import report_of_run

SIZE = (72, 96)


def scene(seed: int, bad: bool = False) -> np.ndarray:
    """A bright disc on a gradient with some noise, 0 to 1, float64 [H,W]; bad: with a dark notch."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[: SIZE[0], : SIZE[1]]
    image = np.where((y - 36) ** 2 + (x - 48) ** 2 < 26**2, 0.8, 0.1 + 0.3 * x / SIZE[1])
    if bad:
        image[24:40, 44:62] = 0.25
    return np.clip(image + rng.normal(0, 0.015, SIZE), 0, 0.99)


def as_png(bits: int) -> Callable[[Path, np.ndarray], Path]:
    def write(path: Path, image: np.ndarray) -> Path:
        values = np.round(image * ((1 << bits) - 1))
        Image.fromarray(values.astype(np.uint8 if bits == 8 else np.uint16)).save(
            written := path.with_suffix(".png")
        )
        return written

    return write


def as_tiff(bits: int) -> Callable[[Path, np.ndarray], Path]:
    """Colour of that depth; 0: float grey from 0 to 1."""

    def write(path: Path, image: np.ndarray) -> Path:
        values = (
            image.astype(np.float32)
            if bits == 0
            else np.repeat(np.round(image * ((1 << bits) - 1)).astype(np.uint16)[..., None], 3, axis=2)
        )
        tifffile.imwrite(written := path.with_suffix(".tiff"), values)
        return written

    return write


WRITERS = {
    "8": as_png(8), "10": as_png(10), "12": as_png(12), "14": as_png(14), "16": as_png(16),
    "12 colour": as_tiff(12), "float": as_tiff(0),
}  # fmt: skip


def make_set(root: Path, write: Callable[[Path, np.ndarray], Path], masks: bool = False) -> Path:
    """24 images to learn from, 6 good and 6 bad ones to test."""
    for place, seeds, bad in (
        ("train", range(100, 124), False),
        ("test/good", range(20, 26), False),
        ("test/notch", range(30, 36), True),
    ):
        (root / place).mkdir(parents=True)
        for seed in seeds:
            write(root / place / f"{seed:03d}", scene(seed, bad))
    if masks:
        for seed in range(30, 36):
            mask = np.zeros(SIZE, np.uint8)
            mask[24:40, 44:62] = 255
            path = root / "ground_truth" / "notch" / f"{seed:03d}_mask.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(mask).save(path)
    return root


def trained(root: Path, out: Path, **options: Any) -> Detector[Any]:
    config = small_config("patchcore", holdout=0.5)
    return train(config, load_dataset("folder", root), out, progress=False, device="cpu", **options)


@pytest.fixture(scope="module")
def depths(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A run a depth, on the same scene."""
    base = tmp_path_factory.mktemp("depths")
    for name, write in WRITERS.items():
        trained(make_set(base / f"data {name}", write), base / name)
    return {name: base / name for name in WRITERS}


@pytest.mark.parametrize("name", WRITERS)
def test_the_same_scene_has_the_same_verdicts_at_every_depth(
    name: str, depths: dict[str, Path], tmp_path: Path
) -> None:
    found, plain = (
        evaluate_run(depths[one], out=tmp_path / f"{one}.json", maps_out=tmp_path / one, device="cpu")
        for one in (name, "8")
    )
    assert plain["image_auroc"] == 1.0
    assert found["image_auroc"] == pytest.approx(plain["image_auroc"], abs=0.01)
    assert found["notes"] == plain["notes"]
    rows, expected = (
        json.loads((tmp_path / one / "scores.json").read_text())["images"] for one in (name, "8")
    )
    limit = Detector.load(depths["8"], "cpu").threshold
    assert limit is not None
    clear = [abs(row["score"] / limit.value - 1) > 0.05 for row in expected]  # others may go either way
    assert sum(clear[:6]) >= 4
    assert all(clear[6:])
    for row, other, counts in zip(rows, expected, clear, strict=True):
        assert row["verdict"] == other["verdict"] or not counts
    stored = json.loads((depths[name] / files.INPUTS).read_text())["options"]["pixel_range"]
    top = 1.0 if name == "float" else (1 << int(name.split()[0])) - 1
    assert (stored["low"], stored["high"]) == (0.0, top)


@pytest.mark.parametrize("change", ["other depth", "saturated", "black", "another size"])
def test_an_image_unlike_the_training_images_is_noted_by_name(
    change: str, depths: dict[str, Path], tmp_path: Path
) -> None:
    image = scene(40)
    write, image, word = {
        "other depth": (as_png(8), image, "8 bits"),
        "saturated": (as_png(12), np.clip(image * 8, 0, 1), "saturated"),
        "black": (as_png(12), image / 64, "nearly black"),
        "another size": (as_png(12), np.tile(image, (1, 3)), "pixels; the training images have"),
    }[change]
    folder = tmp_path / "in"
    folder.mkdir()
    as_png(12)(folder / "plain", scene(41))
    write(folder / "odd", image)
    results = predict(depths["12"], folder, tmp_path / "out", device="cpu")
    values = json.loads((tmp_path / "out" / "scores.json").read_text())
    rows = {row["file"]: row["notes"] for row in values["images"]}
    assert rows["plain.png"] == []
    assert any(word in note for note in rows["odd.png"])
    assert any(word in note and "odd.png" in note for note in values["notes"])
    assert list(results.notes) == values["notes"]
    assert word in (tmp_path / "out" / "scores.csv").read_text()


def test_a_bit_depth_may_be_given(tmp_path: Path) -> None:
    root = make_set(tmp_path / "data", as_png(10))
    detector = trained(root, tmp_path / "run", bit_depth=12)
    assert detector.inputs.range == PixelRange.of_bits(12)
    assert Detector.load(tmp_path / "run", "cpu").inputs == detector.inputs


def test_arrays_of_the_runs_depth_score_as_files(depths: dict[str, Path], tmp_path: Path) -> None:
    detector = Detector.load(depths["12"], "cpu")
    image = scene(42)
    path = as_png(12)(tmp_path / "a", image)
    from_file = predict(detector, path, tmp_path / "out").images[0].score
    grey = np.asarray(Image.open(path)).astype(np.uint16)
    array = np.repeat(grey[..., None], 3, axis=2)
    assert detector.score([array]).scores[0] == pytest.approx(from_file, rel=1e-4)
    with pytest.raises(InputError, match=r"images\[0\] .* got float32"):
        detector.score([array.astype(np.float32)])
    with pytest.raises(InputError, match="masked array"):
        detector.score([np.ma.array(array)])


def test_damaged_or_missing_inputs_are_refused(depths: dict[str, Path], tmp_path: Path) -> None:
    detector = Detector.load(depths["12"], "cpu")
    detector.save(tmp_path / "run")
    path = tmp_path / "run" / files.INPUTS
    assert RunInputs.load(tmp_path / "run") == detector.inputs
    path.write_text('{"options": 3}')
    with pytest.raises(InputError, match=r"inputs\.json"):
        RunInputs.load(tmp_path / "run")
    path.unlink()
    assert RunInputs.load(tmp_path / "run") == RunInputs()  # as of runs that were written before
    with pytest.raises(InputError, match="another model"):  # but this run's threshold was set with it
        Detector.load(tmp_path / "run", "cpu")


def test_exif_orientation_is_applied_at_training_and_prediction(tmp_path: Path) -> None:
    def write(path: Path, image: np.ndarray) -> Path:
        """Stored turned by a quarter, tag 6 says so."""
        exif = Image.Exif()
        exif[274] = 6
        turned = np.rot90(np.round(image * 255).astype(np.uint8))
        Image.fromarray(turned).save(written := path.with_suffix(".png"), exif=exif)
        return written

    upright = trained(make_set(tmp_path / "upright", as_png(8), masks=True), tmp_path / "a")
    rotated = trained(make_set(tmp_path / "rotated", write, masks=True), tmp_path / "b")
    assert rotated.inputs.options.oriented
    images = [as_png(8)(tmp_path / "x", scene(50, True)), write(tmp_path / "y", scene(50, True))]
    for index, image in enumerate(images):
        results = [
            predict(detector, image, tmp_path / f"{index}{number}").images[0]
            for number, detector in enumerate((upright, rotated))
        ]
        assert results[0].score == pytest.approx(results[1].score, rel=1e-3)
        assert [(one.height, one.width) for one in results] == [SIZE, SIZE]
    found = [evaluate_run(tmp_path / name, device="cpu") for name in "ab"]
    assert found[0]["au_pro"] == pytest.approx(found[1]["au_pro"], abs=1e-3)


def test_without_masks_images_are_evaluated_and_pixels_are_null(
    depths: dict[str, Path], tmp_path: Path
) -> None:
    metrics = evaluate_run(depths["8"], out=tmp_path / "m.json", device="cpu")
    assert metrics["pixel_auroc"] is metrics["au_pro"] is None
    assert metrics["image_auroc"] == metrics["image_aupr"] == 1.0
    assert 0 < metrics["image_f1"] <= 1
    assert any("no ground_truth" in note for note in metrics["notes"])
    report = report_of_run(depths["8"], tmp_path / "report.html", device="cpu")
    assert report["metrics"]["au_pro"] is None
    assert "ground truth</figcaption>" not in (tmp_path / "report.html").read_text()


def test_a_folder_with_everything_in_it(
    depths: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """PostScript by the name of a PNG fails, the others are scored; what is not read is counted; names."""
    folder, elsewhere = tmp_path / "in", tmp_path / "elsewhere"
    folder.mkdir()
    elsewhere.mkdir()
    (folder / "x.png").write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\nshowpage\n")
    (folder / "notes.txt").write_text("x")
    (folder / "phone.heic").write_bytes(b"x")
    as_png(8)(elsewhere / "linked", scene(60))
    (folder / "link").symlink_to(elsewhere)
    (folder / "loop").symlink_to(folder)
    names = ["=cmd()", "two\nlines", "$\\foo$", "<b>", "n" * 251]
    for number, name in enumerate(names):
        Image.fromarray(np.round(scene(61 + number) * 255).astype(np.uint8)).save(folder / f"{name}.png")
    raw = bytes(folder) + b"/Gr\xf6\xdfe.png"
    Path(os.fsdecode(raw)).write_bytes((folder / "<b>.png").read_bytes())
    code = main(["predict", str(depths["8"]), str(folder), "--out", str(tmp_path / "out"), "--json"])
    values = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert code == 2
    assert [entry["file"] for entry in values["failed"]] == ["x.png"]
    rows = [row["file"] for row in values["images"]]
    assert set(rows) == {*(f"{name}.png" for name in names), "link/linked.png", r"Gr\xf6\xdfe.png"}
    assert all((tmp_path / "out" / row["map"]).is_file() for row in values["images"])
    assert all((tmp_path / "out" / row["overlay"]).is_file() for row in values["images"])
    notes = " ".join(values["notes"])
    assert "2 file(s)" in notes
    assert "notes.txt" in notes
    assert "phone.heic" in notes
    assert "loop" in notes
    table = (tmp_path / "out" / "scores.csv").read_bytes().decode("utf-8")
    assert "'=cmd().png" in table
    assert "<b>.png" not in (tmp_path / "out" / "report.html").read_text(encoding="utf-8")


def test_calibration_takes_every_image_of_a_folder(depths: dict[str, Path], tmp_path: Path) -> None:
    detector = Detector.load(depths["12"], "cpu")
    detector.save(tmp_path / "run")
    for number, place in enumerate(("good", "bad", "train", "test")):  # names that data sets know
        (tmp_path / "images" / place).mkdir(parents=True)
        as_png(12)(tmp_path / "images" / place / "a", scene(70 + number))
    (tmp_path / "images" / "x.txt").write_text("x")
    notes: list[str] = []
    threshold = calibrate(tmp_path / "run", tmp_path / "images", device="cpu", notes=notes)
    assert len(threshold.scores) == 4
    assert any("x.txt" in note for note in notes)


def test_a_large_image_is_drawn_at_a_lower_resolution(
    depths: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scoring, "KEPT", 1000)
    monkeypatch.setattr(sys.modules["thfr.inference.predict"], "KEPT", 1000)
    path = as_png(8)(tmp_path / "a", scene(80, True))
    results = inspect(depths["8"], path, tmp_path / "out", device="cpu")
    (row,) = (image.row() for image in results.images)
    with Image.open(tmp_path / "out" / row["overlay"]) as picture:
        assert 900 <= picture.width * picture.height <= 1100
    with tifffile.TiffFile(tmp_path / "out" / row["map"]) as stored:
        assert stored.series[0].shape == SIZE


def test_scores_are_kept_for_the_report(depths: dict[str, Path], tmp_path: Path) -> None:
    detector = Detector.load(depths["8"], "cpu")
    dataset = load_dataset("folder", depths["8"].parent / "data 8")
    predict(detector, dataset, tmp_path / "out")
    assert stored_scores(tmp_path / "out", detector, dataset) is not None
