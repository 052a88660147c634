"""End to end on real images: a short training already localises defects."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from thfr.data import load_dataset
from thfr.io import read_image
from thfr.methods.thfr.config import THFRConfig, THFRModelConfig, THFRTrainingConfig
from thfr.training import train

import thfr_ext


@pytest.mark.shared
@pytest.mark.slow
def test_short_training_localises_transistor_defects(shared: Path, tmp_path: Path) -> None:
    dataset = load_dataset("mvtec_ad", shared / "data" / "mvtec_ad", "transistor_reduced")
    config = THFRConfig(
        model=THFRModelConfig(backbone="resnet18", size=128, bottleneck_channels=128),
        training=THFRTrainingConfig(epochs=1, min_steps=40),
    )
    weights = shared / "weights" / "resnet18_imagenet_timm_features.safetensors"
    detector = train(config, dataset, tmp_path / "run", weights=weights, device="cpu", progress=False)
    given = detector.score([read_image(sample.path) for sample in dataset.test])
    masks = [dataset.mask(sample) for sample in dataset.test]
    assert [single.shape for single in given.maps] == [mask.shape for mask in masks]
    found = thfr_ext.auroc(np.stack(given.maps).ravel(), np.stack(masks).ravel())
    assert found > 0.75
