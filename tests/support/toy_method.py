"""A method as a newcomer would add one: how far each pixel is from the mean of the good images."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, ClassVar, Literal

from thfr.config import ModelConfig, RunConfig, TrainingConfig
from thfr.methods import Detector, FitContext, register_method, registry
from torch import Tensor

NAME = "toy"


class ToyConfig(RunConfig):
    title: ClassVar[str] = "Toy"
    paper: ClassVar[str] = "none"
    uses_backbone: ClassVar[bool] = False

    method: Literal["toy"] = "toy"
    model: ModelConfig = ModelConfig(backbone="tf_efficientnet_lite0")
    training: TrainingConfig = TrainingConfig()


class ToyDetector(Detector[ToyConfig]):
    def __init__(self, config: ToyConfig, mean: Tensor, device: Any = "cpu", precision: Any = "fp32") -> None:
        super().__init__(config, None, device, precision)
        self.mean = mean.to(self.device)

    @classmethod
    def fit(
        cls, config: ToyConfig, extractor: None, context: FitContext
    ) -> tuple[ToyDetector, dict[str, Any]]:
        return cls(config, context.images.float().mean(0), context.device), {}

    def _score(self, images: Tensor) -> tuple[Tensor, Tensor]:
        distances = self._stage("distance", lambda: (images.float() - self.mean).abs().mean(1))
        return distances, distances.amax((1, 2))

    def state(self) -> dict[str, Tensor]:
        return {"mean": self.mean}

    @classmethod
    def from_state(
        cls, config: ToyConfig, extractor: None, state: dict[str, Tensor], device: Any, precision: Any
    ) -> ToyDetector:
        size = config.model.size
        if state["mean"].shape != (3, *size):
            raise ValueError(f"mean must be {[3, *size]}, got {list(state['mean'].shape)}")
        return cls(config, state["mean"], device, precision)


def register() -> None:
    register_method(NAME, ToyConfig)(ToyDetector)


@contextmanager
def registered() -> Iterator[None]:
    """The toy is one of the methods inside."""
    register()
    try:
        yield
    finally:
        del registry._registered[NAME]
