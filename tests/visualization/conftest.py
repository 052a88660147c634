"""A made-up product, and two small detectors of it."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

import pytest
from thfr.data import Dataset, load_dataset
from thfr.data.synth import generate
from thfr.methods import Detector
from thfr.methods.thfr.config import THFRConfig, THFRModelConfig, THFRTrainingConfig
from thfr.training import train

SIZE = 64


@dataclass(frozen=True)
class Study:
    """A data set with finished runs on it, by variant."""

    data: Path
    runs: dict[str, Path]

    @property
    def dataset(self) -> Dataset:
        return load_dataset("mvtec_loco", self.data)

    def detector(self, variant: str) -> Detector:
        return Detector.load(self.runs[variant], "cpu")


def small_run(out: Path, dataset: Dataset, variant: str, size: int = SIZE) -> Path:
    """A run of one epoch on features of an EfficientNet whose weights come with a package."""
    model = THFRModelConfig(
        variant=variant, backbone="tf_efficientnet_lite0", size=size, bottleneck_channels=16
    )
    training = THFRTrainingConfig(epochs=1, min_steps=0)
    train(THFRConfig(model=model, training=training), dataset, out, device="cpu", progress=False)
    return out


@pytest.fixture(scope="session")
def study(tmp_path_factory: pytest.TempPathFactory) -> Study:
    folder = tmp_path_factory.mktemp("study")
    generate(folder / "data", images=20)
    dataset = load_dataset("mvtec_loco", folder / "data")
    runs = {variant: small_run(folder / variant, dataset, variant) for variant in ("thfr", "gbn")}
    return Study(folder / "data", runs)


@pytest.fixture
def run_copy(study: Study, tmp_path: Path) -> Path:
    """The run of the variant thfr, to be changed."""
    return Path(shutil.copytree(study.runs["thfr"], tmp_path / "run"))
