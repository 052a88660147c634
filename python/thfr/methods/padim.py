"""PaDiM: a Gaussian at each location.

Defard, Setkov, Loesch, Audigier, PaDiM: a Patch Distribution Modeling Framework for Anomaly Detection and
Localization, ICPR 2021 (arXiv:2011.08785): embedding (section III.A), distribution (III.B, equation 1), map
(III.C, equation 2).

Differs from the paper: ``stride`` may make the locations coarser, where time or memory is short. Fitting
takes sums over the images instead of a store of their features, and as many passes over the images as keep
the sums in memory.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from thfr.backbones import FeatureExtractor
from thfr.config import ModelConfig, RunConfig, TrainingConfig
from thfr.errors import InputError
from thfr.methods.base import Detector
from thfr.methods.common.context import FitContext
from thfr.methods.common.features import feature_batches
from thfr.methods.common.patches import averaged, averaged_grids, concatenated
from thfr.methods.registry import register_method
from thfr.random_streams import generator

_CHANNELS = 7  # independent random stream
_CHUNK = 64 << 20  # bytes of one fp64 step of the factorisation
_TAUGHT = 1 << 30  # bytes of the fp64 sums of locations that are taught in one pass over the images
_BATCH = 16  # images whose sums are taken at once


class PaDiMModelConfig(ModelConfig):
    """The embedding and its distribution."""

    dimension: int | None = Field(default=None, ge=1)
    """Channels of the embedding, drawn at random from those of all levels; None: 550 for wide_resnet50_2,
    else 100.
    """
    regularisation: float = Field(default=0.01, gt=0)
    """Epsilon, added to the variance of each channel."""
    stride: Literal[4, 8, 16] = 4
    """Least pixels between locations; a transformer's are its patches."""

    @property
    def grid(self) -> tuple[int, int]:
        """Height and width of the map of locations."""
        return averaged_grids(self.grids, self.spec.strides, self.stride)[0]

    @property
    def embedding(self) -> int:
        """``dimension``, or the backbone's default."""
        return self.dimension or (550 if self.backbone == "wide_resnet50_2" else 100)


class PaDiMConfig(RunConfig):
    """A run of PaDiM."""

    title: ClassVar[str] = "PaDiM"
    paper: ClassVar[str] = (
        "Defard et al., PaDiM: a Patch Distribution Modeling Framework for Anomaly Detection and "
        "Localization, ICPR 2021"
    )

    method: Literal["padim"] = "padim"
    model: PaDiMModelConfig = PaDiMModelConfig()
    training: TrainingConfig = TrainingConfig()


@register_method("padim", PaDiMConfig)
class PaDiMDetector(Detector[PaDiMConfig]):
    """The map is the Mahalanobis distance at each of P locations, the score its maximum.

    ``channels``: int64 [D]; ``means``: fp32 [P,D]; ``whitenings``: fp32 [P,D,D], inverse Cholesky factors W
    of the covariances, so that the distance is ``|W (x - mean)|``.
    """

    def __init__(
        self,
        config: PaDiMConfig,
        extractor: FeatureExtractor,
        channels: Tensor,
        means: Tensor,
        whitenings: Tensor,
        *options: Any,
    ) -> None:
        super().__init__(config, extractor, *options)
        self.channels, self.means = channels.to(self.device), means.to(self.device)
        self.whitenings = whitenings.to(self.device)

    @classmethod
    def fit(
        cls, config: PaDiMConfig, extractor: FeatureExtractor, context: FitContext
    ) -> tuple[PaDiMDetector, dict[str, Any]]:
        model = config.model
        dimension, available = model.embedding, sum(extractor.channels)
        if dimension > available:
            raise InputError(
                f"PaDiM: dimension must be at most {available}, all channels of {extractor.name}, "
                f"got {dimension}"
            )
        rng = generator(config.training.seed, _CHANNELS, 0)
        channels = torch.randperm(available, generator=rng)[:dimension].sort().values.to(context.device)
        locations = math.prod(model.grid)
        means = torch.empty(locations, dimension, device=context.device)
        whitenings = torch.empty(locations, dimension, dimension, device=context.device)
        together = max(1, context.cache_budget // (8 * dimension**2))  # a location's fp64 sums
        bands = torch.arange(locations).split(together)
        for number, band in enumerate(bands, 1):
            title = f"features {number}/{len(bands)}"
            mean, covariance = _moments(extractor, context, channels, band, model.stride, title)
            means[band] = mean.float()
            for part in torch.arange(len(band)).split(max(1, _CHUNK // (8 * dimension**2))):
                whitenings[band[part]] = whitening(covariance[part], model.regularisation).float()
        metadata = {"locations": locations, "dimension": dimension, "passes": len(bands)}
        return cls(config, extractor, channels, means, whitenings, context.device), metadata

    @torch.inference_mode()
    def _score(self, images: Tensor) -> tuple[Tensor, Tensor]:
        features = self._stage("extractor", lambda: self.features(images))
        embedded = embedding(features, self.channels, self.extractor.strides, self.config.model.stride)
        distances = self._stage("distance", lambda: mahalanobis(embedded, self.means, self.whitenings))
        grid = self.config.model.grid
        return self._stage("scoring", lambda: self._smoothed([distances.view(-1, *grid)]))

    @torch.inference_mode()
    def taught(self, images: Tensor, learnt: int) -> PaDiMDetector:
        """Mean and covariance become those of all images, the learnt and the new, as if fitted on all."""
        model = self.config.model
        means, whitenings = torch.empty_like(self.means), torch.empty_like(self.whitenings)
        bands = torch.arange(len(means)).split(max(1, _TAUGHT // (8 * model.embedding**2)))
        for band in bands:
            held = _Moments(
                learnt,
                self.means[band].double(),
                covariance_of(self.whitenings[band].double(), model.regularisation) * (learnt - 1),
            )
            for _, levels in feature_batches(self.extractor, images, self.device, _BATCH):
                embedded = embedding(levels, self.channels, self.extractor.strides, model.stride)
                held.add(embedded[band.to(self.device)].double())
            means[band] = held.mean.float()
            for part in torch.arange(len(band)).split(max(1, _CHUNK // (8 * model.embedding**2))):
                covariance = held.scatter[part] / (held.count - 1)
                whitenings[band[part]] = whitening(covariance, model.regularisation).float()
        return self._renewed(means=means, whitenings=whitenings)

    def state(self) -> dict[str, Tensor]:
        return {"channels": self.channels, "means": self.means, "whitenings": self.whitenings}

    @classmethod
    def from_state(
        cls, config: PaDiMConfig, extractor: FeatureExtractor, state: dict[str, Tensor], *options: Any
    ) -> PaDiMDetector:
        locations, dimension = math.prod(config.model.grid), config.model.embedding
        shapes = {
            "channels": (dimension,),
            "means": (locations, dimension),
            "whitenings": (locations, dimension, dimension),
        }
        for name, shape in shapes.items():
            if state[name].shape != shape:
                raise InputError(f"PaDiM: {name} must be {list(shape)}, got {list(state[name].shape)}")
        channels, means, whitenings = (state[name] for name in shapes)
        return cls(config, extractor, channels, means, whitenings, *options)


def embedding(
    levels: list[Tensor],  # three [B,C_l,H_l,W_l], at ``strides``
    channels: Tensor,  # int64 [D], among those of all levels
    strides: Sequence[int],
    stride: int,
) -> Tensor:  # fp32 [P,B,D]
    """The chosen channels at each location: a coarser level's vector is that of all locations it covers."""
    merged = averaged(levels, strides, stride)
    starts = [0, *torch.tensor([level.shape[1] for level in merged]).cumsum(0).tolist()]
    parts = [
        level[:, channels[(channels >= start) & (channels < start + level.shape[1])] - start].float()
        for start, level in zip(starts[:-1], merged, strict=True)
    ]
    return concatenated(parts, "nearest").flatten(2).permute(2, 0, 1)


def mahalanobis(
    embedded: Tensor,  # fp32 [P,B,D]
    means: Tensor,  # fp32 [P,D]
    whitenings: Tensor,  # fp32 [P,D,D]
) -> Tensor:  # fp32 [B,P]
    """The Mahalanobis distance to the location's own distribution."""
    return torch.bmm(embedded - means[:, None], whitenings.transpose(1, 2)).norm(dim=2).T


def whitening(
    covariances: Tensor,  # fp64 [P,D,D]
    regularisation: float,
) -> Tensor:  # fp64 [P,D,D]
    """W with ``W^T W`` the inverse of ``covariance + regularisation * I``: that of its Cholesky factor."""
    identity = torch.eye(covariances.shape[1], dtype=covariances.dtype, device=covariances.device)
    factors = torch.linalg.cholesky(covariances + regularisation * identity)
    return torch.linalg.solve_triangular(factors, identity.expand_as(factors), upper=False)


def covariance_of(
    whitenings: Tensor,  # fp64 [P,D,D]
    regularisation: float,
) -> Tensor:  # fp64 [P,D,D]
    """The inverse of :func:`whitening`, to the precision of ``whitenings``."""
    identity = torch.eye(whitenings.shape[1], dtype=whitenings.dtype, device=whitenings.device)
    factors = torch.linalg.solve_triangular(whitenings, identity.expand_as(whitenings), upper=False)
    return factors @ factors.transpose(1, 2) - regularisation * identity


class _Moments:
    """Mean and scatter (the covariance times ``count - 1``) at p locations, by the pairwise update of Chan,
    Golub and LeVeque (1979).
    """

    def __init__(
        self,
        count: int,
        mean: Tensor,  # fp64 [p,D]
        scatter: Tensor,  # fp64 [p,D,D]
    ) -> None:
        self.count, self.mean, self.scatter = count, mean, scatter

    def add(
        self,
        values: Tensor,  # fp64 [p,B,D], overwritten
    ) -> None:
        count = values.shape[1]
        new = values.mean(1)
        values -= new[:, None]
        shift = (new - self.mean)[:, :, None] * (self.count * count / (self.count + count)) ** 0.5
        # one more row holds the distance of the two means
        values = torch.cat([values, shift.transpose(1, 2)], 1)
        self.scatter.baddbmm_(values.transpose(1, 2), values)
        self.mean += (new - self.mean) * (count / (self.count + count))
        self.count += count


@torch.inference_mode()
def _moments(
    extractor: FeatureExtractor,
    context: FitContext,
    channels: Tensor,
    band: Tensor,  # int64 [p], indices of locations
    stride: int,
    title: str,
) -> tuple[Tensor, Tensor]:  # fp64 [p,D], [p,D,D]
    """Mean and covariance at some locations."""
    dimension = len(channels)
    options: dict[str, Any] = {"dtype": torch.float64, "device": context.device}
    found = _Moments(
        0,
        torch.zeros(len(band), dimension, **options),
        torch.zeros(len(band), dimension, dimension, **options),
    )
    for _, levels in feature_batches(
        extractor, context.images, context.device, _BATCH, context.progress, title
    ):
        found.add(embedding(levels, channels, extractor.strides, stride)[band.to(context.device)].double())
    return found.mean, found.scatter.div_(found.count - 1)
