"""CFLOW-AD: Gudovskiy, Ishizaka, Kozuka, "CFLOW-AD: Real-Time Unsupervised Anomaly Detection with
Localization via Conditional Normalizing Flows", WACV 2022.

For each level of a frozen extractor a normalising flow of affine couplings learns the density of the feature
vectors, given where in the image they are. Where a vector is unlikely, the image is anomalous. The coupling
blocks (with their soft clamping and random permutations) are those of FrEIA, as in the paper.

Where this deviates from the paper:

- Levels are those of every method here, at strides 4, 8 and 16 where the backbone has them; the paper's three
  are one coarser.
- Log-likelihoods, divided by the number of channels, become probabilities relative to the largest one among
  (at most 32) training images, not among the test images: an image's map must not depend on what else is
  being tested.
- Vectors are standardised, channel by channel, before the first block: an invertible layer of fixed weights.
- Maps are smoothed with sigma 4 like those of every method here; the paper up-samples only.
- All levels take their step together; the density of each is its own, so it is as if each had an optimiser.
"""

from __future__ import annotations

import math
import time
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn

from thfr import distributed
from thfr.backbones import FeatureExtractor
from thfr.config import ModelConfig, OptimisationConfig, RunConfig
from thfr.methods.common.batches import batch_indices
from thfr.methods.common.context import FitContext
from thfr.methods.common.features import FeatureStore
from thfr.methods.common.optimisation import Optimiser
from thfr.methods.common.trained import TrainedDetector
from thfr.methods.registry import register_method
from thfr.random_streams import generator

_STREAM = 20  # of random draws; one a level from here on
_REFERENCE = 32  # training images among which the largest likelihood is sought
_ROWS = 1024  # vectors at once when scoring: few enough for the processor's cache
_FLAT = 1e-3  # least standard deviation of a channel


class CFLOWModelConfig(ModelConfig):
    """The flows."""

    couplings: int = Field(default=8, ge=1)
    """Coupling blocks of the flow of each level."""
    position_channels: int = Field(default=128, ge=4, multiple_of=4)
    """Width of the positional encoding that the flows are conditioned on."""
    clamp: float = Field(default=1.9, gt=0)
    """Bound of a coupling's log scale."""


class CFLOWTrainingConfig(OptimisationConfig):
    """How the flows are fitted."""

    batch_size: int = Field(default=32, ge=1)
    """Images that the feature vectors of a step are taken from."""
    steps_per_batch: int = Field(default=512, ge=1)
    """Optimisation steps before the next images come: an epoch has as many for each batch of images. At
    256 x 256 with 256 vectors a step, 512 steps take in as many vectors as the finest level has.
    """
    locations: int = Field(default=256, ge=1)
    """Feature vectors of each level that a step learns from."""
    learning_rate: float = Field(default=2e-4, gt=0)
    precision: Literal["fp32"] = "fp32"
    """Log-determinants sum over all channels and blocks: half precision loses what tells images apart."""

    def steps(self, images: int) -> int:
        batches = self.epochs * -(-images // self.batch_size)
        wanted = max(batches * self.steps_per_batch, self.min_steps)
        return wanted if self.max_steps is None else min(wanted, self.max_steps)


class CFLOWConfig(RunConfig):
    """A run of CFLOW-AD."""

    title: ClassVar[str] = "CFLOW"
    paper: ClassVar[str] = (
        "Gudovskiy et al., CFLOW-AD: Real-Time Unsupervised Anomaly Detection with Localization via "
        "Conditional Normalizing Flows, WACV 2022"
    )

    method: Literal["cflow"] = "cflow"
    model: CFLOWModelConfig = CFLOWModelConfig()
    training: CFLOWTrainingConfig = CFLOWTrainingConfig()


def positional_encoding(channels: int, height: int, width: int) -> Tensor:
    """Sinusoidal encoding of every location, fp32 [height*width,channels], ``channels`` a multiple of 4.

    The first half of the channels tells the row, the second the column, each in pairs of a sine and a cosine
    of wavelengths that grow geometrically from 2 pi towards 10000 * 2 pi cells (Vaswani et al., NeurIPS 2017,
    in two dimensions).
    """
    half = channels // 2
    rates = 10000.0 ** (-torch.arange(0, half, 2) / half)

    def encode(cells: int) -> Tensor:  # [cells,half]
        angles = torch.arange(cells)[:, None] * rates
        return torch.stack([angles.sin(), angles.cos()], dim=2).flatten(1)

    rows = encode(height)[:, None].expand(-1, width, -1)
    columns = encode(width)[None].expand(height, -1, -1)
    return torch.cat([rows, columns], dim=2).flatten(0, 1)


class ConditionalFlow(nn.Module):
    """The density of feature vectors, given a condition: standardisation, then affine couplings to a standard
    normal distribution.
    """

    def __init__(self, channels: int, condition: int, couplings: int, clamp: float) -> None:
        super().__init__()
        from FrEIA.framework import SequenceINN  # takes most of a second, which only this method needs
        from FrEIA.modules import AllInOneBlock

        self.mean: Tensor
        self.deviation: Tensor
        self.register_buffer("mean", torch.zeros(channels))
        self.register_buffer("deviation", torch.ones(channels))
        self.couplings = SequenceINN(channels)
        for _ in range(couplings):
            self.couplings.append(
                AllInOneBlock,
                cond=0,
                cond_shape=(condition,),
                subnet_constructor=_subnet,
                affine_clamping=clamp,
            )

    def forward(
        self,
        vectors: Tensor,  # fp32 [N,C]
        condition: Tensor,  # fp32 [N,P]
    ) -> Tensor:  # fp32 [N]
        """Log-likelihood of each standardised vector, divided by the number of channels."""
        standard = (vectors - self.mean) / self.deviation
        latent, log_determinant = self.couplings(standard, [condition])
        normal = -0.5 * (latent.square() + math.log(2 * math.pi)).sum(dim=1)
        return (normal + log_determinant) / vectors.shape[1]


def _subnet(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(inputs, 2 * inputs), nn.ReLU(), nn.Linear(2 * inputs, outputs))


class CFLOWNetwork(nn.Module):
    """A flow for each level, what it is conditioned on, and the largest log-likelihood of good images.

    Its weights are drawn from ``seed``.
    """

    def __init__(self, config: CFLOWModelConfig, channels: tuple[int, ...], seed: int = 0) -> None:
        super().__init__()
        self.largest: Tensor  # [levels]
        self.register_buffer("largest", torch.zeros(len(channels)))
        for level, grid in enumerate(config.grids):
            encoding = positional_encoding(config.position_channels, *grid)
            self.register_buffer(f"locations{level}", encoding, persistent=False)
        before = np.random.get_state()  # FrEIA draws its permutations from there
        try:
            np.random.seed(seed % 2**32)
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(seed)
                self.flows = nn.ModuleList(
                    ConditionalFlow(width, config.position_channels, config.couplings, config.clamp)
                    for width in channels
                )
        finally:
            np.random.set_state(before)

    def locations(self, level: int) -> Tensor:  # [H*W,P]
        """The encodings of a level's locations, row by row."""
        return self.get_buffer(f"locations{level}")

    def log_likelihood(
        self,
        features: list[Tensor],  # three [B,C_l,H_l,W_l]
    ) -> list[Tensor]:  # fp32 [B,H_l,W_l]
        """Log-likelihood per channel of every location of every level."""
        found = []
        for level, (flow, maps) in enumerate(zip(self.flows, features, strict=True)):
            vectors = maps.permute(0, 2, 3, 1).flatten(0, 2).float()
            condition = self.locations(level).repeat(len(maps), 1)
            pieces = zip(vectors.split(_ROWS), condition.split(_ROWS), strict=True)
            found.append(torch.cat([flow(*piece) for piece in pieces]).view(-1, *maps.shape[2:]))
        return found


@register_method("cflow", CFLOWConfig)
class CFLOWDetector(TrainedDetector[CFLOWConfig]):
    """The map is the sum over the levels of one minus the probability of the features relative to good ones,
    the score its maximum.
    """

    network: CFLOWNetwork

    @staticmethod
    def make_network(config: CFLOWConfig, extractor: FeatureExtractor) -> CFLOWNetwork:
        return CFLOWNetwork(config.model, extractor.channels, config.training.seed)

    @classmethod
    def fit(
        cls, config: CFLOWConfig, extractor: FeatureExtractor, context: FitContext
    ) -> tuple[CFLOWDetector, dict[str, Any]]:
        started = time.monotonic()
        store = context.compute_features(extractor)
        try:
            fitting = _Fitting(config, extractor, store, context.device)
            seconds = fitting.optimiser.run(fitting.losses, context, started)
            fitting.set_largest()
            metadata = {"train_seconds": round(seconds, 3), "features_mapped": store.mapped}
        finally:
            store.close()
        return cls(config, extractor, fitting.network, context.device), metadata

    @torch.inference_mode()
    def _score(self, images: Tensor) -> tuple[Tensor, Tensor]:
        features = self._stage("extractor", lambda: self.features(images))
        likelihoods = self._stage("flows", lambda: self.network.log_likelihood(features))
        return self._stage("scoring", lambda: self._map(likelihoods))

    def _map(self, likelihoods: list[Tensor]) -> tuple[Tensor, Tensor]:
        return self._smoothed(
            [
                1 - (level - largest).exp()
                for level, largest in zip(likelihoods, self.network.largest, strict=True)
            ]
        )


class _Fitting:
    """What one fitting needs at every step."""

    def __init__(
        self, config: CFLOWConfig, extractor: FeatureExtractor, store: FeatureStore, device: torch.device
    ) -> None:
        self.settings, self.store, self.device = config.training, store, device
        self.network = CFLOWDetector.make_network(config, extractor)
        for flow, mean, deviation in zip(self.network.flows, *store.statistics(), strict=True):
            flow.get_buffer("mean").copy_(mean)
            flow.get_buffer("deviation").copy_(deviation.clamp(min=_FLAT))
        self.network.to(device)
        self.optimiser = Optimiser.of(config.training, self.network, len(store), device, warm_up_and_cosine)

    def losses(self, step: int) -> dict[str, Tensor]:
        settings = self.settings
        batch = step // settings.steps_per_batch
        chosen = batch_indices(len(self.store), settings.batch_size, settings.seed, batch)
        losses = {}
        for level, (flow, stock) in enumerate(zip(self.network.flows, self.store.levels, strict=True)):
            rng = generator(settings.seed, _STREAM + level, step)
            images = chosen[torch.randint(len(chosen), (settings.locations,), generator=rng)]
            locations = torch.randint(stock.shape[2:].numel(), (settings.locations,), generator=rng)
            images, locations = distributed.mine(images), distributed.mine(locations)
            vectors = stock.flatten(2)[images, :, locations].to(self.device).float()
            condition = self.network.locations(level)[locations.to(self.device)]
            losses[f"level{level + 1}"] = -flow(vectors, condition).mean()
        return losses

    @torch.inference_mode()
    def set_largest(self) -> None:
        """Note the largest log-likelihood of each level among evenly spaced training images."""
        count = min(_REFERENCE, len(self.store))
        chosen = torch.linspace(0, len(self.store) - 1, count).round().long()
        largest = torch.full_like(self.network.largest, -math.inf)
        for single in chosen.split(1):
            found = self.network.log_likelihood(self.store.gather(single, self.device))
            largest = torch.maximum(largest, torch.stack([level.max() for level in found]))
        self.network.largest.copy_(largest)


def warm_up_and_cosine(step: int, total: int) -> float:
    """Factor on the learning rate: warm-up over 2 % of the steps (the paper's 2 of 100 epochs), then
    a cosine down to 0.
    """
    warm = max(1, total // 50)
    if step < warm:
        return (step + 1) / warm
    return 0.5 * (1 + math.cos(math.pi * (step - warm) / (total - warm)))
