"""What is drawn of a run: strips, pages of typical defects, the report; and the commands for them."""

from __future__ import annotations

import json
import os
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from thfr.cli import main
from thfr.data import load_dataset
from thfr.evaluation import evaluate_run
from thfr.inference import calibrate
from thfr.io import read_map
from thfr.methods import Detector
from thfr.visualization.qualitative import kinds_of_defect
from thfr.visualization.results import open_results
from thfr.visualization.run_report import report_of_run
from thfr.visualization.strips import make_strips, typical_defects, visualize
from thfr.visualization.training import load_visualizer
from thfr.visualization.typical import typical

from .conftest import Study, small_run
from .test_report import parsed

CPU = ("--device", "cpu")


@pytest.fixture(scope="module")
def own(study: Study, tmp_path_factory: pytest.TempPathFactory) -> Study:
    """Copies of the runs, which other tests do not see."""
    folder = tmp_path_factory.mktemp("own")
    runs = {name: Path(shutil.copytree(run, folder / name)) for name, run in study.runs.items()}
    return Study(study.data, runs)


@pytest.fixture(scope="module")
def drawn(own: Study) -> dict[str, Any]:
    """What :func:`visualize` says of a run with another beside it."""
    names = ["logical_anomalies/000", "structural_anomalies/001.png"]
    return visualize(own.runs["thfr"], [own.runs["gbn"]], images=names, asked={"steps": 3}, device="cpu")


def output(capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    return json.loads(capsys.readouterr().out.splitlines()[-1])


def test_strips_hold_all_panels_in_order(own: Study, drawn: dict[str, Any]) -> None:
    run = own.runs["thfr"]
    results = open_results("visualize", run, device="cpu")
    samples = [sample for sample in own.dataset.test if sample.is_anomalous][:2]
    visualizer = load_visualizer(run, results.detector)
    strips = make_strips(results, visualizer, [own.runs["gbn"]], samples)
    assert [strip.sample for strip in strips] == samples
    for strip in strips:
        assert list(strip.panels) == [
            "normal", "input", "recon", "restored: GBN", "restored: THFR", "template",
            "template recon", "anomaly map", "ground truth",
        ]  # fmt: skip
        assert {panel.shape for panel in strip.panels.values()} == {(320, 320, 3)}
        assert not np.array_equal(strip.panels["restored: GBN"], strip.panels["restored: THFR"])
    restored = results.entries(samples)[0].restored
    assert restored is not None
    small = np.asarray(Image.fromarray(strips[0].panels["restored: THFR"]).resize((64, 64)))
    assert np.abs(small.astype(int) - restored()).mean() < 4  # the report's picture is the same one


def test_visualize_writes_a_strip_an_image_and_a_page(own: Study, drawn: dict[str, Any]) -> None:
    folder = own.runs["thfr"] / "strips"
    assert drawn["images"] == ["logical_anomalies/000.png", "structural_anomalies/001.png"]
    assert {path.name for path in folder.iterdir()} == {
        "logical_anomalies-000.png", "structural_anomalies-001.png", "strips.png", "strips.pdf",
    }  # fmt: skip
    assert drawn["page"] == str(folder / "strips.png")
    for path in (*drawn["strips"], drawn["page"]):
        with Image.open(path) as picture:
            assert picture.width >= 1500
    assert drawn["network"]["error"]["held_out"]["images"] == 2


def test_visualize_on_the_command_line(
    own: Study, drawn: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = str(own.runs["thfr"])
    sample = next(sample for sample in own.dataset.test if sample.is_anomalous)
    arguments = ["visualize", run, "--out", str(tmp_path / "one"), *CPU]
    assert main([*arguments, "--images", f"{sample.kind}/{sample.id}", "--json"]) == 0
    values = output(capsys)
    assert values["images"] == [f"{sample.kind}/{sample.path.name}"]
    assert (tmp_path / "one" / f"{sample.kind}-{sample.id}.png").is_file()
    assert main([*arguments, "--images", "good/nobody"]) == 2
    error = capsys.readouterr().err
    assert error.startswith("thfr visualize: error: images: expected names of test images such as ")
    assert "good/nobody" in error
    assert main([*arguments, "--steps", "4"]) == 2
    assert "steps (4 here, 3 there)" in capsys.readouterr().err
    other = small_run(tmp_path / "other", own.dataset, "gbn", 96)
    assert main([*arguments, "--beside", str(other)]) == 2
    assert re.search(
        r"^thfr visualize: error: .*other must have .*size is 96, there 64", capsys.readouterr().err
    )
    (tmp_path / "file").write_text("x")
    assert main(["visualize", run, "--out", str(tmp_path / "file"), *CPU]) == 2
    assert "visualize: error: out must be a folder" in capsys.readouterr().err
    assert main(["visualize", str(tmp_path), *CPU]) == 2
    assert capsys.readouterr().err.startswith("thfr visualize: error: ")


def test_of_each_kind_of_defect_the_median_is_drawn(own: Study, drawn: dict[str, Any]) -> None:
    results = open_results("visualize", own.runs["thfr"], device="cpu")
    groups = [group for group in kinds_of_defect(results).values() if group[0].is_anomalous]
    for sample, group in zip(typical_defects(results), groups, strict=True):
        scores = sorted(results.scores[other] for other in group)
        assert results.scores[sample] == scores[len(scores) // 2]


def test_typical_is_the_median_or_an_even_spread() -> None:
    scores = [5.0, 1.0, 4.0, 2.0, 3.0, 0.0, 6.0]
    assert typical(scores, float) == [3.0]
    assert typical(scores[:2], float) == [5.0]
    assert typical(scores, float, 3) == [5.0, 3.0, 1.0]
    assert typical(scores, float, 9) == sorted(scores, reverse=True)


def test_the_gallery_has_a_row_a_kind_of_defect(
    own: Study, drawn: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = str(own.runs["thfr"])
    assert main(["gallery", run, "--out", str(tmp_path), *CPU, "--json"]) == 0
    values = output(capsys)
    assert next(iter(values["kinds"])) == "good"
    assert sum(values["kinds"].values()) == len(own.dataset.test)
    names = {name for part in values["kinds"] for name in part.split(" + ")} - {"good"}
    known = {defect.defect_name.replace("_", " ") for defect in own.dataset.defects.values()}
    assert names <= known
    pages = [Path(page) for page in values["pages"]]
    assert len(pages) >= 2
    pdf = pages[-1].read_bytes()
    assert pdf.startswith(b"%PDF")
    assert b"/FontFile2" in pdf  # TrueType: text that can be searched
    assert b"/Type3" not in pdf
    for page in pages[:-1]:
        with Image.open(page) as picture:
            assert 1200 <= picture.width <= 2400
            assert picture.height <= 11 * 200
    assert main(["gallery", run, "--out", str(pages[0]), *CPU]) == 2
    assert "gallery: error: out must be a folder" in capsys.readouterr().err


def test_the_report_of_a_run(
    own: Study, drawn: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = own.runs["thfr"]
    assert main(["report", str(run), "--out", str(tmp_path / "report.html"), *CPU, "--json"]) == 0
    values = output(capsys)
    total = len(own.dataset.test)
    assert sum(values["verdicts"].values()) == total
    page = parsed(tmp_path / "report.html")
    text = " ".join(" ".join(page.text).split())
    assert f"{100 * values['metrics']['image_auroc']:.1f} % image AUROC" in text
    for which in ("scores", "roc", "pro", "spro"):
        assert ("figure", "class", which) in page.attributes
    assert sum(attribute == ("figure", "class", "restored") for attribute in page.attributes) == total
    assert "is for pictures only and takes no part in scores" in text
    assert main(["evaluate", str(run), *CPU, "--json"]) == 0
    evaluated = output(capsys)
    assert evaluated["image_auroc"] == pytest.approx(values["metrics"]["image_auroc"])
    assert main(["report", str(run), "--out", str(tmp_path), *CPU]) == 2
    assert "report: error: out must be a file" in capsys.readouterr().err


def test_results_are_kept_until_the_run_or_an_image_changes(
    study: Study, run_copy: Path, tmp_path: Path
) -> None:
    data = Path(shutil.copytree(study.data, tmp_path / "data"))

    def written(maps: Path | None = None) -> int:
        results = open_results("report", run_copy, data, maps=maps, device="cpu")
        return next(iter(results.maps.values())).stat().st_mtime_ns

    results = open_results("report", run_copy, data, device="cpu")
    sample = results.dataset.test[0]
    assert read_map(results.maps[sample]).max() == pytest.approx(results.scores[sample], rel=0.1)
    first = written()
    assert written() == first
    with Image.open(sample.path) as picture:
        changed = picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    changed.save(sample.path)
    second = written()
    assert second > first
    assert written() == second
    calibrate(run_copy, rate=0.5)
    third = written()
    assert third > second
    # maps that `evaluate` has kept do as well, and only those of this very run
    evaluate_run(run_copy, data, maps_out=tmp_path / "maps", device="cpu")
    kept = (tmp_path / "maps" / "scores.json").stat().st_mtime_ns
    assert written(tmp_path / "maps") > third
    assert (tmp_path / "maps" / "scores.json").stat().st_mtime_ns == kept
    assert written() == third
    open_results("report", study.runs["gbn"], data, maps=tmp_path / "maps", device="cpu")
    assert (tmp_path / "maps" / "scores.json").stat().st_mtime_ns > kept


@pytest.mark.parametrize("older", [False, True])
def test_a_training_image_that_has_changed_is_not_shown_as_another(
    older: bool, study: Study, run_copy: Path, tmp_path: Path
) -> None:
    """``older``: a run that stored no digests of its training images."""
    if older:
        note = run_copy / "data.json"
        note.write_text(json.dumps({**json.loads(note.read_text()), "train": None}))
    data = Path(shutil.copytree(study.data, tmp_path / "data"))
    out = tmp_path / "report.html"
    report_of_run(run_copy, out, data=data, device="cpu")
    page = parsed(out)
    shown = [value for tag, name, value in page.attributes if (tag, name) == ("figure", "class")]
    assert "nearest-good" in shown
    assert "not shown where the training image" not in " ".join(page.text)
    for path in sorted(load_dataset("mvtec_loco", data).folder.glob("train/good/*"))[1:]:
        path.unlink()
    report_of_run(run_copy, out, data=data, device="cpu")
    text = " ".join(parsed(out).text)
    assert "not shown where the training image has changed" in text


def test_a_run_without_templates_or_test_images(
    own: Study, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "report.html"
    assert main(["report", str(own.runs["gbn"]), "--out", str(out), "--per-kind", "2", *CPU]) == 0
    text = " ".join(parsed(out).text)
    # the validation images have set a threshold, which is the limit without templates too
    threshold = Detector.load(own.runs["gbn"], "cpu").threshold
    assert threshold is not None
    assert f"With the decision threshold at {threshold.value:.4g}" in text
    assert threshold.in_short() in text
    assert "nearest good" not in text
    folder = load_dataset("folder", own.dataset.folder / "train")
    run = small_run(tmp_path / "folder", folder, "gbn")
    for command in ("report", "gallery", "visualize"):
        capsys.readouterr()
        assert main([command, str(run), *CPU]) == 2
        assert capsys.readouterr().err.startswith(f"thfr {command}: error: ")


@pytest.mark.parametrize("command", ["report", "gallery"])
def test_a_read_only_run_is_drawn_elsewhere(
    command: str,
    own: Study,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    run = shutil.copytree(own.runs["gbn"], tmp_path / "run", ignore=shutil.ignore_patterns("results"))
    before = sorted(run.rglob("*"))
    monkeypatch.setattr(os, "access", lambda path, mode: not Path(path).is_relative_to(run))
    out, maps = ("--out", str(tmp_path / "out")), ("--maps", str(tmp_path / "maps"))
    for given, words in {(): "say where: --out", out: "say where: --maps DIR"}.items():
        assert main([command, str(run), *given, *CPU, "--json"]) == 2
        assert words in output(capsys)["error"]
    assert main([command, str(run), *out, *maps, *CPU, "--json"]) == 0
    assert (tmp_path / "out").exists()
    assert sorted(run.rglob("*")) == before
