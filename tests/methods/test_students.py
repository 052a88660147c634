"""What holds for every method that trains a student: round trip, resume, repeatability, and a planted defect
that is found.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from thfr.config import RunConfig
from thfr.errors import InputError
from thfr.methods import Detector
from thfr.methods.common.optimisation import AdamSteps
from thfr.methods.registry import config_from_values
from thfr.training import is_finished, train

METHODS = ("rd4ad", "student_teacher", "gcad")
_NARROW: dict[str, dict[str, Any]] = {
    "rd4ad": {"block": "bottleneck", "blocks": 1},
    "student_teacher": {"width": 4, "students": 2, "levels": [2, 3]},
    "gcad": {"width": 4, "levels": [2]},
}


def picture(seed: int) -> np.ndarray:
    """uint8 [64,64,3]: a bright square near the same place of a dim noisy ground."""
    rng = np.random.default_rng(seed)
    image = rng.integers(20, 50, (64, 64, 3), dtype=np.uint8)
    top, left = rng.integers(16, 20, 2)
    image[top : top + 28, left : left + 28] = rng.integers(150, 180, (28, 28, 3), dtype=np.uint8)
    return image


def scratched(seed: int) -> np.ndarray:
    """The same with a thick dark line through the square."""
    image = picture(seed)
    image[28:36, 22:44] = (10, 60, 10)
    return image


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("good")
    for seed in range(10):
        Image.fromarray(picture(seed)).save(folder / f"{seed}.png")
    return sorted(folder.iterdir())


def tiny(method: str, steps: int = 4, **training: Any) -> RunConfig:
    """EfficientNet-Lite0 at 64 x 64 with the weights from its package."""
    return config_from_values(
        {
            "method": method,
            "model": {"backbone": "tf_efficientnet_lite0", "size": 64, **_NARROW[method]},
            "training": {
                "batch_size": 4,
                "min_steps": steps,
                "max_steps": steps,
                "precision": "fp32",
                **training,
            },
        }
    )


def run(config: RunConfig, images: list[Path], out: Path, **options: Any) -> Detector[Any]:
    return train(config, images, out, progress=False, device="cpu", **options)


def result(out: Path) -> bytes:
    return (out / "model.safetensors").read_bytes()


@pytest.mark.parametrize("method", METHODS)
def test_run_folder_gives_the_same_bits_again(method: str, images: list[Path], tmp_path: Path) -> None:
    out = tmp_path / "run"
    trained = run(tiny(method, holdout=0.2), images, out)
    facts = json.loads((out / "run.json").read_text())
    assert facts["steps"] == 4
    assert facts["train_seconds"] > 0
    assert facts["precision"] == "fp32"
    batch = trained.prepare([picture(90), scratched(91)])
    maps, scores = trained.score_prepared(batch)
    assert maps.shape == (2, 64, 64)
    assert maps.dtype == scores.dtype == torch.float32
    assert torch.equal(scores, maps.amax((1, 2)))
    loaded = Detector.load(out, "cpu")
    assert loaded.threshold == trained.threshold is not None
    again = loaded.score_prepared(batch)
    assert torch.equal(maps, again[0])
    assert torch.equal(scores, again[1])
    # nothing of an image's batch is in its map
    torch.testing.assert_close(loaded.score_prepared(batch[1:])[0], maps[1:], rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("method", METHODS)
def test_bf16_maps_are_near(method: str, images: list[Path], tmp_path: Path) -> None:
    run(tiny(method, steps=12, precision="bf16"), images, tmp_path / "run")
    batch = torch.from_numpy(picture(90)).permute(2, 0, 1)[None]
    exact, near = (
        Detector.load(tmp_path / "run", "cpu", precision).score_prepared(batch)[0]
        for precision in ("fp32", "bf16")
    )
    assert near.dtype == torch.float32
    assert (near - exact).abs().max() < 0.1 * (exact.max() - exact.min())


@pytest.mark.parametrize("method", METHODS)
def test_same_seed_same_bits_and_another_seed_others(method: str, images: list[Path], tmp_path: Path) -> None:
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        torch.rand(1)  # the global generator's state must not matter
        run(tiny(method, steps=2, seed=seed), images, tmp_path / name)
    assert result(tmp_path / "a") == result(tmp_path / "b") != result(tmp_path / "c")


@pytest.mark.parametrize("method", METHODS)
def test_goes_on_exactly_after_an_exception(
    method: str, images: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = tiny(method, decay=True)
    run(config, images, tmp_path / "whole")
    take = AdamSteps.take

    def breaks(self: AdamSteps, step: int, losses: Any) -> dict[str, float]:
        if step == 2:
            raise KeyboardInterrupt
        return take(self, step, losses)

    monkeypatch.setattr(AdamSteps, "take", breaks)
    with pytest.raises(KeyboardInterrupt):
        run(config, images, tmp_path / "broken", checkpoint_seconds=0)
    monkeypatch.undo()
    assert not is_finished(tmp_path / "broken")
    run(config, images, tmp_path / "broken", checkpoint_seconds=0)
    log = [json.loads(line) for line in (tmp_path / "broken" / "log.jsonl").read_text().splitlines()]
    assert {"resumed_at": 2} in log
    assert result(tmp_path / "broken") == result(tmp_path / "whole")


@pytest.mark.parametrize("method", METHODS)
def test_features_in_a_file_give_the_same(method: str, images: list[Path], tmp_path: Path) -> None:
    run(tiny(method, steps=2), images, tmp_path / "memory")
    run(tiny(method, steps=2), images, tmp_path / "file", cache_budget=0)
    assert result(tmp_path / "memory") == result(tmp_path / "file")
    assert not list((tmp_path / "file").glob(".features*"))


@pytest.mark.parametrize("method", METHODS)
def test_a_planted_defect_is_found(method: str, images: list[Path], tmp_path: Path) -> None:
    detector = run(tiny(method, steps=60, learning_rate=5e-3), images, tmp_path / "run")
    log = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    losses = [line["loss"] for line in log if "loss" in line]
    assert losses[-1] < losses[0]
    good = detector.score([picture(seed) for seed in range(50, 54)])
    bad = detector.score([scratched(seed) for seed in range(60, 64)])
    assert bad.scores.min() > good.scores.max()
    for single in bad.maps:
        row, column = np.unravel_index(single.argmax(), single.shape)
        assert 20 <= row < 44
        assert 14 <= column < 52


@pytest.mark.parametrize("method", METHODS)
def test_a_state_of_another_network_is_refused(method: str, images: list[Path], tmp_path: Path) -> None:
    out = tmp_path / "run"
    run(tiny(method, steps=1), images, out)
    state = load_file(out / "model.safetensors")
    state.pop(next(name for name in state if name.endswith(".weight")))
    save_file(state, out / "model.safetensors")
    with pytest.raises(InputError, match=r"model\.safetensors cannot be read"):
        Detector.load(out, "cpu")


@pytest.mark.parametrize(
    ("method", "section", "field", "value"),
    [
        ("rd4ad", "model", "blocks", 0),
        ("rd4ad", "model", "block", "dense"),
        ("rd4ad", "training", "loss", "l2"),
        ("student_teacher", "model", "students", 1),
        ("student_teacher", "model", "levels", []),
        ("gcad", "model", "levels", [2, 2]),
        ("gcad", "model", "levels", [4]),
        ("gcad", "training", "normalisation_share", 0.0),
        ("gcad", "training", "weight_decay", -1.0),
    ],
)
def test_wrong_fields_are_named(method: str, section: str, field: str, value: Any) -> None:
    with pytest.raises(InputError, match=rf"{section}\.{field}"):
        config_from_values({"method": method, section: {field: value}})
