"""The detector of methods whose networks regress a frozen teacher's descriptors from the image."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from typing import Any, Literal, TypeVar

import torch
from pydantic import Field, field_validator
from torch import Tensor, nn
from torch.nn import functional as F

from thfr import distributed
from thfr.backbones import FeatureExtractor
from thfr.backbones.specs import BackboneSpec
from thfr.config import ModelConfig, RunConfig
from thfr.methods.common.batches import batch_indices, held_out
from thfr.methods.common.context import FitContext
from thfr.methods.common.optimisation import AdamConfig
from thfr.methods.common.regression import MapScale, Standardiser
from thfr.methods.common.resolution import power_of_two
from thfr.methods.common.trained import TrainedDetector

_BATCH = 8

RegressionT = TypeVar("RegressionT", bound="RegressionDetector")


class RegressionModelConfig(ModelConfig):
    """Networks that regress the teacher's levels."""

    levels: tuple[Literal[1, 2, 3], ...] = (1, 2, 3)
    """Levels of the backbone that are regressed, 1 the finest to 3: in a pyramid the receptive fields."""

    @property
    def level_strides(self) -> tuple[int, ...]:
        """Of each level that is regressed the stride at which a network stands for it, a power of two."""
        return tuple(power_of_two(self.spec.strides[level - 1]) for level in self.levels)

    @property
    def network_size(self) -> tuple[int, int]:
        """Height and width of the images that the networks see."""
        return network_size(self.spec, self.size)

    @field_validator("levels")
    @classmethod
    def _some_levels(cls, value: tuple[int, ...]) -> tuple[int, ...]:
        if not value or len(set(value)) < len(value):
            raise ValueError(f"expected at least one level, and each once, got {value}")
        return tuple(sorted(value))


class RegressionTrainingConfig(AdamConfig):
    """How such networks are fitted."""

    learning_rate: float = Field(default=1e-3, gt=0)
    weight_decay: float = Field(default=1e-5, ge=0)
    batch_size: int = Field(default=8, ge=1)
    normalisation_share: float = Field(default=0.1, gt=0, lt=1)
    """Share of the training images, at least one, that is not learnt from but scales the error maps."""


class RegressionConfig(RunConfig):
    """A run of such a method."""

    model: RegressionModelConfig
    training: RegressionTrainingConfig


class RegressionNetwork(nn.Module, ABC):
    """Teacher's statistics, networks and the scales of their error maps.

    In methods ``images`` are [B,3,H,W] as the backbone sees them, but of :func:`network_size`; ``features``
    are the extractor's three levels.
    """

    def __init__(self, levels: tuple[int, ...], channels: tuple[int, ...], maps: int) -> None:
        super().__init__()
        self.levels = levels
        self.channels = tuple(channels[level - 1] for level in levels)
        self.standardise = nn.ModuleList(Standardiser(count) for count in self.channels)
        self.scale = MapScale(maps)

    def targets(self, features: list[Tensor]) -> list[Tensor]:
        """The levels that are regressed, standardised."""
        return [
            standardise(features[level - 1].float())
            for level, standardise in zip(self.levels, self.standardise, strict=True)
        ]

    @abstractmethod
    def losses(self, images: Tensor, features: list[Tensor]) -> dict[str, Tensor]:
        """The parts of the loss by name."""

    @abstractmethod
    def errors(self, images: Tensor, features: list[Tensor]) -> list[Tensor]:
        """Error maps [B,h,w], as many as ``scale`` has, each on a scale of its own."""


class RegressionDetector(TrainedDetector[RegressionConfig]):
    """The map is the sum of all error maps, each standardised on good images; the score its maximum."""

    network: RegressionNetwork

    @classmethod
    def fit(
        cls: type[RegressionT], config: RegressionConfig, extractor: FeatureExtractor, context: FitContext
    ) -> tuple[RegressionT, dict[str, Any]]:
        started = time.monotonic()
        network = cls.seeded_network(config, extractor, context.device)
        fitting = _Fitting(config, extractor, context, network)
        try:
            seconds = fitting.optimiser.run(fitting.losses, context, started)
            detector = cls(config, extractor, network, context.device)
            network.scale.fit(fitting.errors_of_unseen())
        finally:
            fitting.store.close()
        return detector, {
            "steps": fitting.optimiser.total,
            "normalisation_images": len(fitting.unseen),
            "train_seconds": round(seconds, 3),
            "precision": fitting.optimiser.precision,
        }

    @torch.inference_mode()
    def _score(self, images: Tensor) -> tuple[Tensor, Tensor]:
        features = self._stage("extractor", lambda: self.features(images))
        errors = self._stage("regression", lambda: self._errors(images, features))
        return self._stage("scoring", lambda: self._map(errors))

    def _errors(self, images: Tensor, features: list[Tensor]) -> list[Tensor]:
        with self._computing():
            return self.network.errors(_as_seen(self.extractor, images, self.device), features)

    def _map(self, errors: list[Tensor]) -> tuple[Tensor, Tensor]:
        return self._smoothed(self.network.scale(errors))


class _Fitting:
    """What one fitting needs at every step: images and their frozen features."""

    def __init__(
        self,
        config: RegressionConfig,
        extractor: FeatureExtractor,
        context: FitContext,
        network: RegressionNetwork,
    ) -> None:
        self.settings, self.device, self.network = config.training, context.device, network
        self.images, self.extractor = context.images, extractor
        self.store = context.compute_features(extractor)
        means, deviations = self.store.statistics()
        for level, standardise in zip(network.levels, network.standardise, strict=True):
            assert isinstance(standardise, Standardiser)
            standardise.set_statistics(means[level - 1], deviations[level - 1])
        count = len(context.images)
        self.unseen = held_out(count, self.settings.normalisation_share, self.settings.seed)
        kept = torch.ones(count, dtype=torch.bool)
        kept[self.unseen] = False
        self.learnt = kept.nonzero().flatten()
        self.optimiser = self.settings.optimiser(network, len(self.learnt), context.device)

    def losses(self, step: int) -> dict[str, Tensor]:
        settings = self.settings
        chosen = self.learnt[batch_indices(len(self.learnt), settings.batch_size, settings.seed, step)]
        images, features = self._taken(distributed.mine(chosen))
        with self.optimiser.computing():
            return self.network.losses(images, features)

    @torch.inference_mode()
    def errors_of_unseen(self) -> list[list[Tensor]]:
        """Error maps of the good images that were not learnt from, by batch."""
        return [self.network.errors(*self._taken(some)) for some in self.unseen.split(_BATCH)]

    def _taken(self, chosen: Tensor) -> tuple[Tensor, list[Tensor]]:
        images = _as_seen(self.extractor, self.images[chosen], self.device)
        return images, self.store.gather(chosen, self.device)


def _as_seen(
    extractor: FeatureExtractor,
    images: Tensor,  # uint8 [B,3,H,W]
    device: torch.device,
) -> Tensor:  # fp32 [B,3,*network_size]
    """Images as the teacher sees them, at the networks' size."""
    seen = extractor.normalise(images.to(device).float().div_(255))
    size = network_size(extractor.spec, (images.shape[2], images.shape[3]))
    if seen.shape[2:] == size:
        return seen
    return F.interpolate(seen, size, mode="bilinear", align_corners=False)


def network_size(spec: BackboneSpec, size: tuple[int, int]) -> tuple[int, int]:
    """Height and width of what networks of stride-2 convolutions must see to end in the backbone's levels:
    ``size`` for strides that are powers of two; patches of 14 pixels are seen as 16.
    """
    stride = power_of_two(spec.strides[2])
    height, width = spec.grids(size)[2]
    return height * stride, width * stride
