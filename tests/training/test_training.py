"""Training: run folders, repeatability, and resuming after any kind of end."""

from __future__ import annotations

import errno
import json
import logging
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from scipy.ndimage import gaussian_filter
from thfr.backbones import create_backbone
from thfr.config import TrainingConfig
from thfr.errors import InputError
from thfr.io import read_image
from thfr.methods import Detector
from thfr.methods.common import features
from thfr.methods.common.augmentation import augmented
from thfr.methods.common.batches import batch_indices, held_out
from thfr.methods.common.features import compute_features
from thfr.methods.common.losses import restoration_losses
from thfr.methods.thfr.config import VARIANTS, THFRConfig, THFRModelConfig, THFRTrainingConfig
from thfr.methods.thfr.corruption import corrupted
from thfr.training import is_finished, train
from thfr.training.trainer import divide


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Six images: a bright square on noise, near the same place."""
    folder = tmp_path_factory.mktemp("good")
    rng = np.random.default_rng(0)
    for index in range(6):
        image = rng.integers(0, 60, (80, 100, 3), dtype=np.uint8)
        image[20 + index : 50 + index, 30:70] = (200, 150, 90)
        Image.fromarray(image).save(folder / f"{index}.png")
    return sorted(folder.iterdir())


def tiny(variant: str = "thfr", seed: int = 0, **training: Any) -> THFRConfig:
    """A run of seconds: 64 x 64, random backbone."""
    return THFRConfig(
        model=THFRModelConfig(
            variant=variant, backbone="resnet18", pretrained=False, size=64, bottleneck_channels=16
        ),
        training=THFRTrainingConfig(
            **{"epochs": 3, "min_steps": 0, "batch_size": 2, "seed": seed, **training}
        ),
    )


def run(config: THFRConfig, images: list[Path], out: Path, **options: object) -> Detector:
    return train(config, images, out, progress=False, device="cpu", **options)


def result(out: Path) -> bytes:
    return (out / "model.safetensors").read_bytes()


@pytest.mark.parametrize("variant", VARIANTS)
def test_writes_a_whole_run_folder_and_loads_it(variant: str, images: list[Path], tmp_path: Path) -> None:
    trained = run(tiny(variant), images, tmp_path / "run")
    names = {path.name for path in (tmp_path / "run").iterdir()}
    expected = {
        "config.yaml",
        "log.jsonl",
        "inputs.json",
        "run.json",
        "model.safetensors",
        "backbone.safetensors",
    }
    assert names == expected | ({"scale.json"} if variant == "thfr" else set())
    facts = json.loads((tmp_path / "run" / "run.json").read_text())
    assert facts["steps"] == 9
    assert facts["train_seconds"] > 0
    assert facts["peak_memory_bytes"] > 1e7
    photos = [np.random.default_rng(1).integers(0, 255, (70, 50, 3), dtype=np.uint8) for _ in range(3)]
    before, after = (
        trained.score(photos, batch_size=2),
        Detector.load(tmp_path / "run", "cpu").score(photos, batch_size=2),
    )
    assert [single.shape for single in after.maps] == [(70, 50)] * 3
    assert np.array_equal(before.scores, after.scores)
    assert all(np.array_equal(a, b) for a, b in zip(before.maps, after.maps, strict=True))


def test_is_resumed_exactly_after_kill_9(images: list[Path], tmp_path: Path) -> None:
    config = tiny(epochs=25)
    (tmp_path / "config.yaml").write_text(config.to_yaml())
    script = (
        "import sys, torch; from pathlib import Path; from thfr.methods import read_config\n"
        "from thfr.training import train\n"
        "torch.set_num_threads(1)\n"  # as in this process: sums of convolutions depend on it
        "folder, out, *images = map(Path, sys.argv[1:])\n"
        "config = read_config(folder / 'config.yaml')\n"
        "train(config, images, out, device='cpu', progress=False, checkpoint_seconds=0)\n"
    )
    out = tmp_path / "killed"
    process = subprocess.Popen([sys.executable, "-c", script, str(tmp_path), str(out), *map(str, images)])
    deadline = time.monotonic() + 600
    while not (out / "checkpoint.safetensors").exists():
        assert process.poll() is None, "the training ended before it could be killed"
        assert time.monotonic() < deadline
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    assert not is_finished(out)
    run(config, images, out)
    run(config, images, tmp_path / "whole")
    assert result(out) == result(tmp_path / "whole")


def test_finished_run_says_so_and_does_nothing(
    images: list[Path], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    run(tiny("gbn"), images, tmp_path / "run")
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "run").iterdir()}
    with caplog.at_level(logging.WARNING):
        run(tiny("gbn"), images, tmp_path / "run")
    assert "nothing to do" in caplog.text
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "run").iterdir()} == before


def test_another_configuration_or_data_is_refused_by_name(images: list[Path], tmp_path: Path) -> None:
    run(tiny("gbn"), images, tmp_path / "run")
    with pytest.raises(InputError, match=r"model\.variant .*training\.seed"):
        run(tiny("lbn", seed=3), images, tmp_path / "run")
    with pytest.raises(InputError, match=r"dataset\.images \(5 here, 6 there\)"):
        run(tiny("gbn"), images[:5], tmp_path / "run")


def test_a_folder_of_something_else_is_left_alone(images: list[Path], tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(InputError, match="not a run folder"):
        run(tiny("gbn"), images, tmp_path)
    with pytest.raises(InputError, match="at least 2 good images"):
        run(tiny("gbn"), images[:1], tmp_path / "run")


def test_damaged_checkpoint_says_what_to_do(images: list[Path], tmp_path: Path) -> None:
    out = tmp_path / "run"
    config = tiny("gbn")
    run(config, images, out)
    (out / "run.json").unlink()
    (out / "checkpoint.safetensors").write_bytes(b"\x10\x00\x00\x00\x00\x00\x00\x00 not a header")
    with pytest.raises(InputError, match=r"checkpoint .* is damaged.*Remove it"):
        run(config, images, out)


def test_features_left_by_a_killed_run_are_removed(tmp_path: Path) -> None:
    left = tmp_path / ".features-left"
    left.mkdir()
    extractor = create_backbone("resnet18", pretrained=False)
    images = torch.zeros(2, 3, 64, 64, dtype=torch.uint8)
    store = compute_features(extractor, images, torch.device("cpu"), tmp_path)
    assert not store.mapped  # removed even where there is no need for a file
    assert not left.exists()


@pytest.mark.parametrize("full", ["at once", "while it is written"])
def test_a_disk_too_small_for_the_features_is_said_at_once(
    full: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_space(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    if full == "at once":
        usage = shutil.disk_usage(tmp_path)._replace(free=100)
        monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    elif hasattr(os, "posix_fallocate"):
        monkeypatch.setattr(os, "posix_fallocate", no_space)
    else:
        pytest.skip("no posix_fallocate here")
    with pytest.raises(InputError, match=rf"2 images need 192 bytes in {re.escape(str(tmp_path))}"):
        features._allocate([(2, 3, 4, 4)], tmp_path, budget=0)
    assert list(tmp_path.iterdir()) == []


def test_features_that_are_not_finite_are_refused(tmp_path: Path) -> None:
    extractor = create_backbone("resnet18", pretrained=False)
    extractor.body.conv1.weight.fill_(float("nan"))
    with pytest.raises(InputError, match="not finite"):
        compute_features(
            extractor, torch.zeros(2, 3, 64, 64, dtype=torch.uint8), torch.device("cpu"), tmp_path
        )


def test_random_templates_change_the_maps_and_need_a_bank(images: list[Path], tmp_path: Path) -> None:
    detector = run(tiny(), images, tmp_path / "run")
    photos = [np.random.default_rng(1).integers(0, 255, (64, 64, 3), dtype=np.uint8)] * 6
    nearest, shuffled = detector.score(photos), detector.shuffled(0).score(photos)
    assert len(set(nearest.scores.tolist())) == 1
    assert len(set(shuffled.scores.tolist())) > 1
    with pytest.raises(InputError, match="no templates"):
        run(tiny("gl"), images, tmp_path / "gl").shuffled(0)


def test_batches_cover_every_image_each_epoch() -> None:
    seen = torch.cat([batch_indices(10, 4, seed=5, step=step) for step in range(3)])
    assert set(seen.tolist()) == set(range(10))
    assert not torch.equal(batch_indices(10, 4, 5, 0), batch_indices(10, 4, 5, 3))
    assert torch.equal(batch_indices(10, 4, 5, 1), batch_indices(10, 4, 5, 1))


def test_corruption_pastes_aligned_rectangles_and_spares_the_original() -> None:
    target = [torch.zeros(2, 1, size, size) for size in (64, 32, 16)]
    source = [torch.ones(3, 1, size, size) for size in (64, 32, 16)]
    pasted = corrupted(target, source, seed=0, step=7, largest=12)
    assert all((level == 0).all() for level in target)
    coarse = pasted[2]
    assert 4 / 256 <= coarse.mean() <= 1
    for level in pasted[:2]:
        assert torch.equal(level, torch.nn.functional.interpolate(coarse, level.shape[2:]))
    assert torch.equal(corrupted(target, source, 0, 7, 12)[0], pasted[0])
    assert not torch.equal(corrupted(target, source, 0, 8, 12)[0], pasted[0])


def test_augmented_copies_are_near_the_original_and_repeatable() -> None:
    rng = np.random.default_rng(0)
    smooth = gaussian_filter(rng.normal(size=(2, 3, 64, 64)), (0, 0, 4, 4))
    originals = torch.from_numpy((128 + 50 * smooth / smooth.std()).clip(0, 255).astype(np.uint8))
    assert augmented(originals, 0, seed=0) == []
    first, second = augmented(originals, 2, seed=0)
    assert first.shape == originals.shape
    assert first.dtype == torch.uint8
    for one, other in ((first, originals), (second, originals), (first, second)):
        change = (one.float() - other.float()).abs().mean()
        assert 1 < change < 30
    assert torch.equal(augmented(originals, 1, seed=0)[0], first)
    assert not torch.equal(augmented(originals, 1, seed=1)[0], first)


def test_flattened_loss_is_the_cosine_distance_of_whole_levels() -> None:
    rng = torch.Generator().manual_seed(0)
    wanted, restored = torch.rand(3, 5, 4, 6, generator=rng), torch.rand(3, 5, 4, 6, generator=rng)
    expected = 1 - torch.nn.functional.cosine_similarity(wanted.flatten(1), restored.flatten(1))
    torch.testing.assert_close(
        restoration_losses([wanted], [restored], "flattened")["level1"], expected.mean()
    )
    places = 1 - torch.nn.functional.cosine_similarity(wanted, restored)
    found = restoration_losses([wanted], [restored], "location")
    torch.testing.assert_close(found, {"level1": places.mean()})


@pytest.mark.parametrize(
    "options", [{"loss": "flattened"}, {"augmentation": 1}, {"corruption_cells": 2}, {"corruption": False}]
)
def test_options_of_training_change_the_result(
    options: dict[str, Any], images: list[Path], tmp_path: Path
) -> None:
    run(tiny(), images, tmp_path / "plain")
    run(tiny(**options), images, tmp_path / "changed")
    assert result(tmp_path / "plain") != result(tmp_path / "changed")
    assert json.loads((tmp_path / "changed" / "run.json").read_text())["templates"] == 6


def test_images_held_out_set_the_threshold_and_nothing_else(images: list[Path], tmp_path: Path) -> None:
    trained = run(tiny(holdout=0.34), images, tmp_path / "run", false_alarm_rate=0.4)
    held = held_out(6, 0.34, seed=0).tolist()
    assert len(held) == 2
    assert trained.bank is not None
    assert trained.bank.indices.tolist() == [number for number in range(6) if number not in held]
    assert trained.threshold is not None
    loaded = Detector.load(tmp_path / "run", "cpu")
    assert loaded.threshold == trained.threshold
    scores = loaded.score([read_image(images[number]) for number in held]).scores
    assert trained.threshold.scores == pytest.approx(sorted(scores.tolist()), rel=1e-5)
    assert trained.threshold.expected_rate == pytest.approx(1 / 3)
    # the same network as without those images at all
    rest = [image for number, image in enumerate(images) if number not in held]
    run(tiny(), rest, tmp_path / "rest")
    mine, theirs = (load_file(tmp_path / name / "model.safetensors") for name in ("run", "rest"))
    for held_tensors in (mine, theirs):
        del held_tensors["bank.rows"]  # the images' numbers, among others
    assert mine.keys() == theirs.keys()
    assert all(torch.equal(tensor, theirs[name]) for name, tensor in mine.items())


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_fewer_shots_are_among_more(images: list[Path], seed: int) -> None:
    def drawn(shots: int | None) -> list[int]:
        learnt, indices, unseen = divide(images, TrainingConfig(shots=shots, holdout=0.34, seed=seed))
        assert [images[number] for number in indices] == list(learnt)
        assert not set(learnt) & set(unseen)
        return indices.tolist()

    one, two, every = drawn(1), drawn(2), drawn(None)
    assert [len(some) for some in (one, two, every)] == [1, 2, 4]
    assert set(one) < set(two) < set(every)
    assert drawn(4) == every


def test_more_shots_than_images_are_refused(images: list[Path]) -> None:
    with pytest.raises(InputError, match=r"shots: expected at most 4 images of 6 with holdout 0\.34, got 5"):
        divide(images, TrainingConfig(shots=5, holdout=0.34))


def test_holdout_of_all_images_is_refused(images: list[Path], tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"2 good images to learn from, got 1 of 6 with holdout 0\.9"):
        run(tiny(holdout=0.9), images, tmp_path / "run")
