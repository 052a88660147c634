"""What CFLOW and DRAEM have in common: fit, score, files, repeatability, going on after an end."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from thfr.config import RunConfig
from thfr.errors import InputError
from thfr.methods import Detector, cflow, draem
from thfr.methods.registry import config_from_values
from thfr.runs import files
from thfr.runs.tensors import save_tensors
from thfr.training import is_finished, train
from torch import Tensor

from .conftest import discs

SIZE = 64
SPOT = (slice(26, 40), slice(34, 48))  # of the planted defect
FITTINGS = {"cflow": cflow._Fitting, "draem": draem.detector._Fitting}
SMALL: dict[str, dict[str, Any]] = {
    "cflow": {
        "model": {"couplings": 2, "position_channels": 8},
        "training": {"steps_per_batch": 2, "locations": 64},
    },
    "draem": {
        "model": {"reconstruction_width": 4, "discrimination_width": 4, "smoothing": 5},
        "training": {"rotation": 0},
    },
}
ENOUGH: dict[str, dict[str, Any]] = {  # to find something
    "cflow": {"epochs": 40, "learning_rate": 2e-3, "batch_size": 16, "locations": 256},
    "draem": {"epochs": 60, "learning_rate": 5e-3, "batch_size": 4},
}


def product(count: int, seed: int) -> Tensor:  # uint8 [N,3,S,S]
    return discs(count, seed, SIZE, 1)


def make_config(method: str, seed: int = 0, **training: Any) -> RunConfig:
    model = {"backbone": "tf_efficientnet_lite0", "size": SIZE, **SMALL[method]["model"]}
    fields = {"epochs": 3, "batch_size": 2, "seed": seed, **SMALL[method]["training"], **training}
    return config_from_values({"method": method, "model": model, "training": fields})


@pytest.fixture(scope="module")
def paths(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("good")
    for index, image in enumerate(product(12, 0)):
        Image.fromarray(image.permute(1, 2, 0).numpy()).save(folder / f"{index:02}.png")
    return sorted(folder.iterdir())


def run(config: RunConfig, images: list[Path], out: Path, **options: Any) -> Detector[Any]:
    return train(config, images, out, progress=False, device="cpu", **options)


@pytest.fixture(scope="module", params=SMALL)
def fitted(
    request: pytest.FixtureRequest, paths: list[Path], tmp_path_factory: pytest.TempPathFactory
) -> tuple[Detector[Any], Path]:
    out = tmp_path_factory.mktemp("out") / "run"
    return run(make_config(request.param, **ENOUGH[request.param]), paths, out), out


def test_finds_a_planted_defect(fitted: tuple[Detector[Any], Path]) -> None:
    detector, _ = fitted
    good, bad = product(6, 7), product(6, 8)
    bad[:, :, SPOT[0], SPOT[1]] = torch.tensor([30, 90, 220], dtype=torch.uint8)[:, None, None]
    maps, scores = detector.score_prepared(bad)
    assert maps.shape == (6, SIZE, SIZE)
    assert maps.dtype == scores.dtype == torch.float32
    assert torch.equal(scores, maps.amax(dim=(1, 2)))
    assert scores.min() > detector.score_prepared(good)[1].max()
    for place in maps.flatten(1).argmax(1).tolist():
        y, x = divmod(place, SIZE)
        assert SPOT[0].start - 5 <= y < SPOT[0].stop + 5
        assert SPOT[1].start - 5 <= x < SPOT[1].stop + 5


def test_an_image_is_scored_alone(fitted: tuple[Detector[Any], Path]) -> None:
    images = product(3, 9)
    together = fitted[0].score_prepared(images)
    for index in range(3):
        alone = fitted[0].score_prepared(images[index : index + 1])
        for one, all_ in zip(alone, together, strict=True):
            torch.testing.assert_close(one[0], all_[index], rtol=1e-4, atol=1e-4)


def test_files_give_the_same_detector(fitted: tuple[Detector[Any], Path]) -> None:
    detector, out = fitted
    loaded = Detector.load(out, "cpu")
    assert type(loaded) is type(detector)
    assert loaded.config == detector.config
    images = product(2, 3)
    for one, other in zip(detector.score_prepared(images), loaded.score_prepared(images), strict=True):
        assert torch.equal(one, other)


def test_half_precision_is_close(fitted: tuple[Detector[Any], Path]) -> None:
    images = product(2, 3)
    full = fitted[0].score_prepared(images)[0]
    half = Detector.load(fitted[1], "cpu", "bf16").score_prepared(images)[0]
    assert half.dtype == torch.float32
    assert (half - full).abs().mean() < 0.1
    assert not torch.equal(half, full)


def test_damaged_files_are_refused(fitted: tuple[Detector[Any], Path], tmp_path: Path) -> None:
    detector, _ = fitted
    detector.save(tmp_path)
    state = detector.state()
    name = next(iter(state))
    for damaged in (
        {key: value for key, value in state.items() if key != name},
        {**state, name: torch.zeros(1, 2, 3)},
        {**state, "more": torch.zeros(1)},
    ):
        save_tensors(damaged, tmp_path / files.MODEL)
        with pytest.raises(InputError, match=files.MODEL):
            Detector.load(tmp_path, "cpu")


@pytest.mark.parametrize("method", SMALL)
def test_equal_seeds_give_equal_runs(method: str, paths: list[Path], tmp_path: Path) -> None:
    states = []
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        torch.rand(1)  # the global generators' states must not matter
        np.random.random()
        run(make_config(method, seed, epochs=1), paths[:4], tmp_path / name)
        states.append((tmp_path / name / files.MODEL).read_bytes())
    assert states[0] == states[1] != states[2]


@pytest.mark.parametrize("method", SMALL)
def test_goes_on_exactly(
    method: str, paths: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = make_config(method, epochs=2)
    run(config, paths[:4], tmp_path / "whole")
    step = FITTINGS[method].step

    def breaks(self: Any, number: int) -> dict[str, float]:
        if number == 3:
            raise KeyboardInterrupt
        return step(self, number)

    monkeypatch.setattr(FITTINGS[method], "step", breaks)
    with pytest.raises(KeyboardInterrupt):
        run(config, paths[:4], tmp_path / "broken", checkpoint_seconds=0)
    monkeypatch.undo()
    assert not is_finished(tmp_path / "broken")
    run(config, paths[:4], tmp_path / "broken", checkpoint_seconds=0)
    log = [json.loads(line) for line in (tmp_path / "broken" / "log.jsonl").read_text().splitlines()]
    assert {"resumed_at": 3} in log
    assert (tmp_path / "broken" / files.MODEL).read_bytes() == (tmp_path / "whole" / files.MODEL).read_bytes()


def test_features_beyond_the_budget_go_to_a_file(paths: list[Path], tmp_path: Path) -> None:
    config = make_config("cflow", epochs=1)
    run(config, paths[:4], tmp_path / "memory")
    run(config, paths[:4], tmp_path / "file", cache_budget=0)
    facts = json.loads((tmp_path / "file" / "run.json").read_text())
    assert facts["features_mapped"]
    assert facts["steps"] == config.training.steps(4)
    assert (tmp_path / "file" / files.MODEL).read_bytes() == (tmp_path / "memory" / files.MODEL).read_bytes()
    assert {path.name for path in (tmp_path / "file").iterdir()} == {
        "config.yaml",
        "log.jsonl",
        "run.json",
        files.MODEL,
        "backbone.safetensors",
    }
