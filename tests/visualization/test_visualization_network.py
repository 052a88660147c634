"""The visualization network: it learns, goes on where it stopped, and refuses what does not fit."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from thfr.data import load_dataset
from thfr.errors import InputError
from thfr.methods import Detector
from thfr.methods.thfr.config import THFRConfig, THFRModelConfig, THFRTrainingConfig
from thfr.runs import files
from thfr.training import train
from thfr.visualization import training
from thfr.visualization.network import VisualizationNetwork
from thfr.visualization.reconstruction import ErrorSum
from thfr.visualization.results import results_of
from thfr.visualization.scrambled import scrambled
from thfr.visualization.training import load_visualizer, train_visualizer

from .conftest import SIZE, Study, small_run

FEW: dict[str, Any] = {"steps": 4, "batch_size": 2}


@pytest.mark.parametrize(
    ("channels", "strides", "size"),
    [
        ((24, 40, 112), (4, 8, 16), (64, 96)),
        ((64, 128, 256), (4, 8, 16), (64, 96)),
        ((256, 512, 1024), (4, 8, 16), (64, 96)),
        ((192, 192, 192), (16, 16, 16), (48, 80)),
        ((384, 384, 384), (14, 14, 14), (42, 70)),
    ],
)
def test_features_of_any_backbone_become_images(
    channels: tuple[int, int, int], strides: tuple[int, int, int], size: tuple[int, int]
) -> None:
    network = VisualizationNetwork(channels, strides)
    features = [
        torch.randn(2, count, size[0] // stride, size[1] // stride)
        for count, stride in zip(channels, strides, strict=True)
    ]
    picture = network(features)
    assert picture.shape == (2, 3, *size)
    assert picture.dtype == torch.float32
    gradients = torch.autograd.grad(picture.square().sum(), [*network.parameters()])
    assert all(bool((gradient != 0).any()) for gradient in gradients)  # no part stands idle


def varied_images(folder: Path, count: int) -> Path:
    """Images with nothing in common: coloured rectangles anywhere on a coloured ground."""
    rng = np.random.default_rng(0)
    folder.mkdir()
    for index in range(count):
        image = np.empty((SIZE, SIZE, 3), np.uint8)
        image[:] = rng.integers(0, 256, 3)
        for _ in range(3):
            (top, left), (height, width) = rng.integers(0, 40, 2), rng.integers(12, 40, 2)
            image[top : top + height, left : left + width] = rng.integers(0, 256, 3)
        Image.fromarray(image).save(folder / f"{index:02d}.png")
    return folder


def test_it_learns_to_show_images_it_has_not_seen(tmp_path: Path) -> None:
    dataset = load_dataset("folder", varied_images(tmp_path / "images", 60))
    run = small_run(tmp_path / "run", dataset, "gbn")
    detector = Detector.load(run, "cpu")
    visualizer = train_visualizer(run, detector, dataset, {"steps": 110})
    facts = json.loads((run / files.VISUALIZER_METADATA).read_text())
    assert facts == visualizer.metadata
    assert facts["trained_on"] == {"images": 54, "test_images": False, "held_out": 6}
    held_out = facts["error"]["held_out"]
    assert held_out["images"] == 6
    assert held_out["mse"] < 0.5 * held_out["mse_of_mean_image"]
    assert "training images only" in visualizer.note()
    again = load_visualizer(run, detector)
    images = torch.randint(0, 256, (2, 3, SIZE, SIZE), dtype=torch.uint8)
    assert torch.equal(again.drawn(detector, images), visualizer.drawn(detector, images))
    for picture in again.pictures(detector, images):
        assert (picture.shape, picture.dtype) == ((SIZE, SIZE, 3), "uint8")


def test_a_second_call_uses_it_and_another_configuration_is_refused(study: Study, run_copy: Path) -> None:
    detector, dataset = study.detector("thfr"), study.dataset
    facts = train_visualizer(run_copy, detector, dataset, FEW).metadata
    assert set(facts["error"]["test"]) == {"good", "logical_anomalies", "structural_anomalies"}
    before = {path.name: path.stat().st_mtime_ns for path in run_copy.iterdir()}
    for asked in ({}, {"steps": 4}, {"seed": 0, "test_images": False}):
        train_visualizer(run_copy, detector, dataset, asked)
    assert {path.name: path.stat().st_mtime_ns for path in run_copy.iterdir()} == before
    with pytest.raises(InputError, match=r"^visualize: .*another configuration: steps \(5 here, 4 there\)"):
        train_visualizer(run_copy, detector, dataset, {"steps": 5})
    with pytest.raises(InputError, match=r"^visualize: .*test_images \(True here, False there\)"):
        train_visualizer(run_copy, detector, dataset, {"test_images": True})
    with pytest.raises(InputError, match=r"^visualize: batch_size"):
        train_visualizer(run_copy, detector, dataset, {"batch_size": 0})
    other = Study(study.data, {"thfr": small_run(run_copy.parent / "other", dataset, "gbn", 96)})
    with pytest.raises(InputError, match=r"^visualize: .*belongs to other features .*: size, dataset differ"):
        load_visualizer(run_copy, other.detector("thfr"))
    (run_copy / files.VISUALIZER).write_bytes(b"no weights")
    with pytest.raises(InputError, match=rf"^visualize: .*{files.VISUALIZER} cannot be read"):
        load_visualizer(run_copy, detector)


def test_an_interrupted_training_goes_on_to_the_same_end(
    study: Study, run_copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    detector, dataset = study.detector("thfr"), study.dataset
    train_visualizer(run_copy, detector, dataset, FEW)
    whole = load_file(run_copy / files.VISUALIZER)
    for name in (files.VISUALIZER_METADATA, files.VISUALIZER):
        (run_copy / name).unlink()
    step = training._Trainer._losses

    def dying(self: training._Trainer, number: int) -> dict[str, torch.Tensor]:
        if number == 2:
            raise KeyboardInterrupt
        return step(self, number)

    monkeypatch.setattr(training._Trainer, "_losses", dying)
    with pytest.raises(KeyboardInterrupt):
        train_visualizer(run_copy, detector, dataset, FEW, checkpoint_seconds=0)
    assert not training.has_visualizer(run_copy)
    with pytest.raises(InputError, match="holds no visualization network"):
        load_visualizer(run_copy, detector)
    begun: list[int] = []
    monkeypatch.setattr(training._Trainer, "_losses", lambda self, n: begun.append(n) or step(self, n))
    train_visualizer(run_copy, detector, dataset, {})
    assert begun == [2, 3]
    resumed = load_file(run_copy / files.VISUALIZER)
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)
    assert not (run_copy / files.VISUALIZER_CHECKPOINT).exists()


def test_with_test_images_as_the_paper(study: Study, run_copy: Path) -> None:
    dataset = study.dataset
    asked = {**FEW, "test_images": True}
    facts = train_visualizer(run_copy, study.detector("thfr"), dataset, asked).metadata
    held_out = (len(dataset.train) + len(dataset.test)) // 10
    assert facts["trained_on"]["test_images"]
    assert facts["trained_on"]["held_out"] == held_out
    assert set(facts["error"]) == {"held_out"}  # no test image is left that it has not seen


def test_tiles_and_letterboxes_are_drawn_as_whole_images(study: Study, tmp_path: Path) -> None:
    dataset = study.dataset
    model = THFRModelConfig(
        variant="gbn", backbone="tf_efficientnet_lite0", size=64, fit="letterbox", tiles=(1, 2), overlap=0.25,
        bottleneck_channels=16,
    )  # fmt: skip
    run = tmp_path / "run"
    few = THFRTrainingConfig(epochs=1, min_steps=0)
    train(THFRConfig(model=model, training=few), dataset, run, device="cpu", progress=False)
    detector = Detector.load(run, "cpu")
    visualizer = train_visualizer(run, detector, dataset, FEW)
    assert visualizer.metadata["trained_on"]["images"] == 18  # images, not tiles
    assert visualizer.metadata["error"]["held_out"]["images"] == 2
    images = torch.randint(0, 256, (2, 3, 64, 112), dtype=torch.uint8)
    whole = visualizer.drawn(detector, images)
    left = visualizer.reconstructed(detector.features(images[..., :64]))
    assert torch.allclose(whole[..., :48], left[..., :48], atol=1e-4)  # the middle is blended
    assert not torch.allclose(whole[..., 48:64], left[..., 48:64], atol=1e-4)
    results = results_of(run, detector, dataset)
    sample = next(sample for sample in dataset.test if sample.is_anomalous)
    picture = results.drawn(visualizer, sample, detector, restored=True)
    assert picture.shape == (64, 64, 3)  # the square image, without the bars on both sides of it
    with pytest.raises(InputError, match=r"^visualize: .*other features .*: dataset, tiles, overlap"):
        load_visualizer(run, study.detector("gbn"))


def test_other_training_images_are_refused(study: Study, run_copy: Path) -> None:
    dataset = dataclasses.replace(study.dataset, train=study.dataset.train[1:])
    with pytest.raises(InputError, match=r"^visualize: the 19 training images .* are not those"):
        train_visualizer(run_copy, study.detector("thfr"), dataset, FEW)


def test_scrambled_images_are_other_images_and_repeat() -> None:
    images = torch.randint(0, 256, (3, 3, 40, 40), dtype=torch.uint8)
    before = images.clone()
    first = scrambled(images, seed=1)
    assert torch.equal(images, before)
    assert torch.equal(first, scrambled(images, seed=1))
    assert not torch.equal(first, scrambled(images, seed=2))
    changed = (first != images).any(1).float().mean((1, 2))
    assert ((changed > 0.02) & (changed < 1)).all()


def test_errors_are_means_over_images() -> None:
    errors = ErrorSum()
    image = torch.zeros(2, 3, 4, 4, dtype=torch.uint8)
    errors.add(image, torch.stack([torch.full((3, 4, 4), 0.1), torch.full((3, 4, 4), 0.01)]))
    found = errors.as_dict()
    assert found["images"] == 2
    assert found["mse"] == pytest.approx((0.01 + 0.0001) / 2, rel=1e-5)
    assert found["psnr"] == pytest.approx((20 + 40) / 2, rel=1e-5)
