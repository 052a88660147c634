"""Add a method from outside of the package: train, evaluate, save and load it as one of thfr's own.

    python examples/add_a_method.py --out results                                    # on generated images
    python examples/add_a_method.py --out results --data mvtec_loco_ad --category juice_bottle

The method is as simple as a useful one can be: the mean of the good images' features at each location, and
the cosine distance from it. It suits products that always lie in the same place.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any, ClassVar, Literal

import torch
from thfr.backbones import FeatureExtractor
from thfr.config import ModelConfig, RunConfig, TrainingConfig
from thfr.data import load_dataset
from thfr.data.synth import generate
from thfr.evaluation import evaluate_detector
from thfr.methods import Detector, FitContext, register_method
from thfr.training import train
from torch import Tensor

import thfr_ext


class MeanModelConfig(ModelConfig):
    """Fields of the method beside backbone and input size; each can be changed by ``--config``."""

    sigma: float = 4.0
    """Blur of the map in pixels."""


class MeanConfig(RunConfig):
    """A run of the method: what the run folder's ``config.yaml`` holds."""

    title: ClassVar[str] = "Mean features"
    paper: ClassVar[str] = "none: an example"

    method: Literal["mean_features"] = "mean_features"
    model: MeanModelConfig = MeanModelConfig()
    training: TrainingConfig = TrainingConfig()


@register_method("mean_features", MeanConfig)
class MeanDetector(Detector[MeanConfig]):
    """Cosine distance from the mean good features, at strides 4, 8 and 16; the score is the map's maximum.

    ``means``: three fp32 [C_l,H_l,W_l].
    """

    def __init__(
        self, config: MeanConfig, extractor: FeatureExtractor, means: list[Tensor], *options: Any
    ) -> None:
        super().__init__(config, extractor, *options)
        self.means = [mean.to(self.device) for mean in means]

    @classmethod
    def fit(
        cls, config: MeanConfig, extractor: FeatureExtractor, context: FitContext
    ) -> tuple[MeanDetector, dict[str, Any]]:
        detector = cls(config, extractor, [], context.device)
        sums: list[Any] = [0.0, 0.0, 0.0]
        for batch in context.images.split(8):
            levels = detector.features(batch)
            sums = [total + level.sum(0) for total, level in zip(sums, levels, strict=True)]
        means = [total / len(context.images) for total in sums]
        return cls(config, extractor, means, context.device), {}

    def _score(
        self,
        images: Tensor,  # uint8 [B,3,H,W]
    ) -> tuple[Tensor, Tensor]:  # fp32 [B,H,W] and [B]
        levels = self._stage("extractor", lambda: self.features(images))  # stages that `thfr bench` times
        return self._stage("scoring", lambda: self._compare(levels))

    def _compare(
        self,
        levels: list[Tensor],  # three [B,C_l,H_l,W_l]
    ) -> tuple[Tensor, Tensor]:  # fp32 [B,H,W] and [B]
        means = [
            mean.to(level.dtype).expand_as(level) for mean, level in zip(self.means, levels, strict=True)
        ]
        size = self.config.model.size
        maps, scores = thfr_ext.anomaly_map(levels, means, size=size, sigma=self.config.model.sigma)
        return maps, scores

    def state(self) -> dict[str, Tensor]:
        return {f"mean{number}": mean for number, mean in enumerate(self.means)}

    @classmethod
    def from_state(
        cls,
        config: MeanConfig,
        extractor: FeatureExtractor,
        state: dict[str, Tensor],
        device: torch.device,
        precision: str,
    ) -> MeanDetector:
        means = [state[f"mean{number}"] for number in range(3)]
        for mean, channels, grid in zip(means, extractor.channels, config.model.grids, strict=True):
            expected = (channels, *grid)
            if mean.shape != expected:  # a damaged file, or one of another configuration
                raise ValueError(f"expected means of {list(expected)}, got {list(mean.shape)}")
        return cls(config, extractor, means, device, precision)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder for everything that is written")
    parser.add_argument("--data", type=Path, help="MVTec LOCO AD's layout (default: generated images)")
    parser.add_argument("--category", help="a folder in it")
    parser.add_argument("--images", type=int, default=48, help="good images to generate")
    parser.add_argument("--size", type=int, default=256, help="edge of the input in pixels, a multiple of 32")
    arguments = parser.parse_args()
    if arguments.data is None:
        arguments.data = generate(arguments.out / "data", images=arguments.images)
    dataset = load_dataset("mvtec_loco", arguments.data, arguments.category)

    config = MeanConfig(model=MeanModelConfig(backbone="tf_efficientnet_lite0", size=arguments.size))
    train(config, dataset, arguments.out / "run", progress=False)
    detector = Detector.load(arguments.out / "run")  # by the name in config.yaml
    assert isinstance(detector, MeanDetector)
    print(json.dumps(evaluate_detector(detector, dataset), indent=2))


if __name__ == "__main__":
    main()
