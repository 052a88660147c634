"""A run with its memory on disk scores as with its own."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from support.images import clouds, write_images
from support.methods import run, small_config
from thfr.cli import main
from thfr.errors import InputError
from thfr.inference.bank import with_bank, write_bank
from thfr.methods import Detector


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    return write_images(tmp_path_factory.mktemp("good"), clouds(9, 0))


@pytest.fixture(scope="module")
def finished(images: list[Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("run") / "run"
    run(small_config("patchcore"), images, out)
    return out


@pytest.mark.parametrize("keys", ["fp16", "int8"])
def test_scores_are_those_of_the_memory(
    finished: Path, images: list[Path], tmp_path: Path, keys: str
) -> None:
    detector = Detector.load(finished, "cpu")
    found = write_bank(detector, tmp_path / "bank", keys=keys)
    assert found["rows"] == len(detector.patches)
    arrays = [np.random.default_rng(1).integers(0, 255, (70, 64, 3), dtype=np.uint8)]
    one, other = detector.score(arrays), with_bank(detector, tmp_path / "bank").score(arrays)
    np.testing.assert_array_equal(one.scores, other.scores)
    np.testing.assert_array_equal(one.maps[0], other.maps[0])


def test_a_bank_of_a_folder_from_the_command_line(
    finished: Path, images: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Every patch of every image is in it: a training image is then no distance from the bank."""
    pytest.importorskip("faiss", reason="needs thfr-ext[faiss]")
    command = ["bank", str(finished), str(images[0].parent), "--out", str(tmp_path / "bank")]
    assert main([*command, "--faiss", "IVF4,Flat", "--probes", "4", "--json", "--device", "cpu"]) == 0
    found = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert found["rows"] == 9 * 8 * 8
    assert found["recall"] > 0.99  # all four lists are looked at
    for more in ([], ["--approximate"]):
        results = tmp_path / f"results{len(more)}"
        given = ["predict", str(finished), str(images[0]), "--bank", str(tmp_path / "bank"), *more]
        assert main([*given, "--out", str(results), "--device", "cpu"]) == 0
        row = json.loads((results / "scores.json").read_text())["images"][0]
        assert row["score"] == pytest.approx(0, abs=0.05)
    detector = Detector.load(finished, "cpu")
    write_bank(detector, tmp_path / "plain")
    with pytest.raises(InputError, match="has no faiss index"):
        with_bank(detector, tmp_path / "plain", approximate=True)


@pytest.mark.parametrize("method", ["template", "thfr"])
def test_templates_on_disk_give_the_same_scores(
    method: str, images: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run(small_config(method), images, tmp_path / "run")
    command = ["bank", str(tmp_path / "run"), "--out", str(tmp_path / "bank"), "--device", "cpu"]
    assert main(command) == 0
    detector = Detector.load(tmp_path / "run", "cpu")
    write_bank(detector, tmp_path / "all", images[0].parent, keys="int8")
    arrays = [np.random.default_rng(1).integers(0, 255, (70, 64, 3), dtype=np.uint8)]
    one = detector.score(arrays)
    for folder in ("bank", "all"):  # every training image is a template of these runs
        other = with_bank(detector, tmp_path / folder)
        assert len(other.bank) == len(images)
        np.testing.assert_array_equal(one.scores, other.score(arrays).scores)
    with pytest.raises(InputError, match="for the patches of PatchCore"):
        write_bank(detector, tmp_path / "index", faiss="Flat")


def test_other_methods_and_widths_are_refused(finished: Path, tmp_path: Path) -> None:
    with pytest.raises(
        InputError,
        match=r"^bank: a bank is the memory of PatchCore or .*, got a run of object",
    ):
        write_bank(object(), tmp_path / "bank")
    detector = Detector.load(finished, "cpu")
    write_bank(detector, tmp_path / "bank")
    detector.patches = detector.patches[:, :5]
    with pytest.raises(InputError, match=r"^PatchCore: bank: expected rows of 5 values, got \d+"):
        with_bank(detector, tmp_path / "bank")
