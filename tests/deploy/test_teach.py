"""Teaching: a false alarm is taught away, defects are still found, and the old run stays as it was."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from support.images import products, spotted, write_images
from support.methods import run as train_run
from support.methods import small_config
from thfr.cli import main
from thfr.data import load_dataset
from thfr.deploy.teach import teach
from thfr.errors import InputError
from thfr.methods import Detector
from thfr.methods.registry import config_from_values
from thfr.runs import files
from thfr.runs.digest import check_files
from thfr.runs.folder import read_metadata
from thfr.training import train

KEEPING = ("thfr", "template", "patchcore", "spade", "padim")
HELD, LEARNT = 5, 11  # of the sixteen training images
TO_TEACH = 3


def labelled(count: int, seed: int) -> torch.Tensor:
    """Products with a pale label, which is good but was on no training image."""
    images = products(count, seed)
    images[:, :, 10:20, 8:26] = torch.tensor([235, 225, 190], dtype=torch.uint8)[:, None, None]
    return images


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("teaching")
    given = {"good": products(16, 0), "alarms": labelled(TO_TEACH, 1), "bad": spotted(3, 2)}
    for name, images in given.items():
        write_images(root / name, images)
    return {name: root / name for name in given}


@pytest.fixture(scope="module")
def run_of(folders: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    @cache
    def made(method: str) -> Path:
        out = tmp_path_factory.mktemp(method) / "run"
        config = small_config(method, holdout=0.3)
        train(config, load_dataset("folder", folders["good"]), out, progress=False, device="cpu")
        return out

    return made


def content(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.parametrize("method", KEEPING)
def test_a_false_alarm_is_taught_away(
    method: str, run_of: Callable[[str], Path], folders: dict[str, Path], tmp_path: Path
) -> None:
    run, out = run_of(method), tmp_path / "taught"
    before = content(run)
    found = teach(run, folders["alarms"], out, check=[folders["bad"], []], device="cpu", why="a new label")
    assert content(run) == before  # undo is the old folder
    for change in found.of("taught"):
        assert change.verdict_before == "bad"
        assert change.after < change.before
        if method != "spade":  # whose score is a mean over more neighbours than were taught
            assert change.verdict_after == "good"
    assert {change.verdict_after for change in found.of("checked")} == {"bad"}
    assert len(found.of("held out")) == HELD
    assert found.threshold.source == "good images not learnt from"

    metadata = read_metadata(out)
    assert metadata.images == LEARNT + TO_TEACH
    assert metadata.parent == {"run": "run", "digest": check_files(run), "images": LEARNT}
    assert [one["file"] for one in metadata.taught] == ["000.png", "001.png", "002.png"]
    assert metadata.why == "a new label"
    again = Detector.load(out, "cpu")  # checks the digests of its files, and that the threshold is its own
    assert again.threshold == found.threshold
    assert again.scale is not None
    scores = again.score_prepared(labelled(TO_TEACH, 1))[1].tolist()
    assert scores == pytest.approx([change.after for change in found.of("taught")], rel=1e-5)


def test_template_needs_no_images_for_its_threshold(folders: dict[str, Path], tmp_path: Path) -> None:
    config = small_config("template", holdout=0.0)
    train(config, load_dataset("folder", folders["good"]), tmp_path / "run", progress=False, device="cpu")
    found = teach(tmp_path / "run", folders["alarms"], tmp_path / "taught", device="cpu")
    assert len(found.of("taught")) == TO_TEACH
    assert found.of("held out") == []
    assert found.threshold.source == "training images, each scored without itself"
    assert len(found.threshold.scores) == LEARNT + HELD + TO_TEACH
    assert Detector.load(tmp_path / "taught", "cpu").threshold == found.threshold
    aside = teach(tmp_path / "run", folders["alarms"], tmp_path / "aside", holdout=0.3, device="cpu")
    assert len(aside.of("held out")) == len(aside.threshold.scores) == 1


def test_padim_is_as_if_fitted_on_all(tmp_path: Path) -> None:
    paths = write_images(tmp_path / "all", products(12, 3))
    config = small_config("padim")
    whole = train_run(config, paths, tmp_path / "whole")
    part = train_run(config, paths[:8], tmp_path / "part").taught(products(12, 3)[8:], 8)
    one, other = (detector.score_prepared(spotted(2, 4)) for detector in (whole, part))
    torch.testing.assert_close(one[1], other[1], rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(one[0], other[0], rtol=1e-2, atol=1e-2)


def test_generations_and_what_is_left_out(
    run_of: Callable[[str], Path], folders: dict[str, Path], tmp_path: Path
) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    teach(run_of("patchcore"), folders["alarms"] / "000.png", first, device="cpu")
    found = teach(first, folders["alarms"], second, device="cpu")
    assert found.metadata.notes == ["1 image(s) left out: given twice, or learnt from already"]
    assert [one["run"] for one in found.metadata.lineage] == ["run", "first"]
    assert len(found.metadata.taught) == TO_TEACH
    assert found.metadata.images == LEARNT + TO_TEACH
    with pytest.raises(InputError, match=r"has learnt from each of the 3 image\(s\) already"):
        teach(second, folders["alarms"], tmp_path / "third", device="cpu")
    held = [change.image for change in found.of("held out")]
    kept = teach(first, held[0], tmp_path / "fourth", device="cpu")  # what is taught sets no threshold
    assert held[0] not in [change.image for change in kept.of("held out")]


def test_without_the_images_of_training(
    run_of: Callable[[str], Path], folders: dict[str, Path], tmp_path: Path
) -> None:
    run = tmp_path / "moved"
    shutil.copytree(run_of("patchcore"), run)
    data = json.loads((run / files.DATA).read_text())
    (run / files.DATA).write_text(json.dumps({**data, "root": str(tmp_path / "gone")}))
    found = teach(run, folders["alarms"], tmp_path / "one", device="cpu")  # one image is set aside
    assert len(found.of("taught")) == 2
    assert len(found.of("held out")) == 1
    assert "the images that training held out are not at hand" in found.metadata.notes[0]
    with pytest.raises(InputError, match=r"1 image\(s\) are too few to set one aside; give --calibration"):
        teach(run, folders["alarms"] / "000.png", tmp_path / "two", device="cpu")
    more = write_images(tmp_path / "more", products(6, 9))
    found = teach(run, folders["alarms"], tmp_path / "three", calibration=tmp_path / "more", device="cpu")
    assert [change.image for change in found.of("held out")] == list(map(str, more))


def test_the_command(
    run_of: Callable[[str], Path],
    folders: dict[str, Path],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    run, out = run_of("patchcore"), tmp_path / "taught"
    command = ["teach", str(run), str(folders["alarms"]), "--out", str(out), "--device", "cpu"]
    assert main([*command, "--json", "--check", str(folders["bad"])]) == 0
    values = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert (values["taught"], values["changed_verdicts"]) == (TO_TEACH, TO_TEACH)
    assert values["parent"]["run"] == "run"
    assert main(command) == 2
    assert "out: expected a new or empty folder" in capsys.readouterr().err
    other = ["teach", str(run), str(folders["alarms"]), "--out", str(tmp_path / "b"), "--device", "cpu"]
    assert main(other) == 0
    assert "taught: 3 images, 3 bad before, 0 bad now" in capsys.readouterr().out


def test_a_taught_run_is_not_trained_again(
    run_of: Callable[[str], Path], folders: dict[str, Path], tmp_path: Path
) -> None:
    out = tmp_path / "taught"
    teach(run_of("patchcore"), folders["alarms"], out, device="cpu")
    config, dataset = small_config("patchcore", holdout=0.3), load_dataset("folder", folders["good"])
    with pytest.raises(InputError, match="holds a run of thfr teach; expected another folder"):
        train(config, dataset, out, progress=False, device="cpu")


def test_a_failure_leaves_nothing(
    run_of: Callable[[str], Path], folders: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from thfr.deploy import teach as module

    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(module, "write_metadata", full)
    with pytest.raises(OSError, match="No space left"):
        teach(run_of("patchcore"), folders["alarms"], tmp_path / "deep" / "taught", device="cpu")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("method", KEEPING)
def test_images_in_tiles(method: str, folders: dict[str, Path], tmp_path: Path) -> None:
    config = small_config(method)
    model = config.model.model_dump() | {"tiles": "1x2", "overlap": 0.25, "fit": "letterbox"}
    tiled = config_from_values({**config.model_dump(), "model": model, "method": method})
    good = sorted(folders["good"].iterdir())
    train(tiled, good[:8], tmp_path / "run", progress=False, device="cpu")
    found = teach(
        tmp_path / "run", folders["alarms"], tmp_path / "taught", calibration=good[8:12], device="cpu"
    )
    assert all(change.after < change.before for change in found.of("taught"))
    again = Detector.load(tmp_path / "taught", "cpu")
    image = [labelled(1, 1)[0].permute(1, 2, 0).numpy()]
    change = found.of("taught")[0]
    assert float(again.score(image).scores[0]) == pytest.approx(change.after, abs=1e-3 * change.before)
    if method == "thfr":
        assert found.metadata.templates == again.template_count == 2 * (8 + TO_TEACH)
        assert (again.nearest_templates(again.prepare(image)) < -1).all()
