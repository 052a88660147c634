"""Evaluating a run: each image is read once, its maps can be kept, and nothing old stays when it fails."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from thfr.data import load_dataset
from thfr.errors import InputError
from thfr.evaluation import evaluate_maps, evaluate_run, open_maps
from thfr.inference import scoring
from thfr.inference.scoring import stored_scores
from thfr.io import read_both
from thfr.methods import Detector
from thfr.methods.thfr.config import THFRConfig, THFRModelConfig, THFRTrainingConfig
from thfr.training import train


@pytest.fixture(scope="module")
def finished(plates: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    config = THFRConfig(
        model=THFRModelConfig(backbone="resnet18", pretrained=False, size=64, bottleneck_channels=16),
        training=THFRTrainingConfig(epochs=1, min_steps=0, batch_size=2),
    )
    out = tmp_path_factory.mktemp("finished") / "run"
    train(config, load_dataset("mvtec_ad", plates, "plate"), out, device="cpu", progress=False)
    return out


@pytest.fixture
def run(finished: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(finished, tmp_path / "run"))


def test_it_keeps_maps_that_give_the_same_figures(
    run: Path, plates: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[Path] = []

    def once(path: Path, *given: Any) -> Any:
        read.append(path)
        return read_both(path, *given)

    monkeypatch.setattr(scoring, "read_both", once)
    metrics = evaluate_run(
        run, out=tmp_path / "m.json", maps_out=tmp_path / "maps", device="cpu", batch_size=3
    )
    dataset = load_dataset("mvtec_ad", plates, "plate")
    assert sorted(read) == sorted(sample.path for sample in dataset.test)
    assert json.loads((tmp_path / "m.json").read_text()) == metrics
    assert not (run / "metrics.json").exists()
    stored = stored_scores(tmp_path / "maps", Detector.load(run, "cpu"), dataset)
    assert stored is not None
    scores = {sample: stored.scores[f"{sample.kind}/{sample.path.name}"] for sample in dataset.test}
    again = evaluate_maps(dataset, open_maps(tmp_path / "maps", dataset), scores)
    for name, value in again.items():
        assert metrics[name] == value or name == "image_f1"  # which needs the run's threshold


def test_a_failure_leaves_no_figures_of_an_earlier_call(run: Path, plates: Path, tmp_path: Path) -> None:
    data = Path(shutil.copytree(plates, tmp_path / "data"))
    maps = tmp_path / "maps"
    evaluate_run(run, data, maps_out=maps, device="cpu")
    assert (run / "metrics.json").is_file()
    broken = data / "plate" / "test" / "scratch" / "001.png"
    broken.write_bytes(broken.read_bytes()[:100])
    with pytest.raises(InputError, match=r"^evaluate: 1 image\(s\) cannot be read:\n.*001\.png"):
        evaluate_run(run, data, maps_out=maps, device="cpu")
    assert not (run / "metrics.json").exists()
    assert not (maps / "scores.json").exists()
    assert not (maps / "scores.csv").exists()


def test_where_nothing_can_be_written_out_is_said_before_the_work(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(*_: object, **__: object) -> None:
        raise AssertionError("images were scored")

    monkeypatch.setattr(Detector, "score", never)
    (tmp_path / "file").write_text("x")
    for out in (tmp_path, tmp_path / "file" / "metrics.json"):
        with pytest.raises(InputError, match=r"evaluate: out must be|cannot make the folder|cannot write"):
            evaluate_run(run, out=out, device="cpu")
