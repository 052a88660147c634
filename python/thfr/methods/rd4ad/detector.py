"""RD4AD: Deng and Li, Anomaly Detection via Reverse Distillation from One-Class Embedding, CVPR 2022.

A frozen teacher's three levels are fused into one narrow embedding, from which a decoder, the teacher read
backwards, restores them. Trained on good images only, it restores nothing else; the map is the sum of the
levels' cosine distances.

Deviations from the paper:
- By default the loss is the cosine distance of whole, flattened levels, which is what the published figures
  are known to rest on; ``loss: location`` is equation 2 as printed, the mean over locations.
- The embedding has twice the channels of the coarsest level, whatever the backbone (2048 for Wide
  ResNet-50-2, as in the paper). A decoder for another backbone than a ResNet is made of basic residual blocks
  and may give negative features; levels of one resolution, a transformer's, are fused and decoded at it.
- Image score and map come from the same smoothed map (sigma 4 pixels, section 3.4), as for every method here.
"""

from __future__ import annotations

import time
from typing import Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from thfr import distributed
from thfr.backbones import FeatureExtractor
from thfr.config import ModelConfig, RunConfig
from thfr.methods.common.batches import batch_indices
from thfr.methods.common.context import FitContext
from thfr.methods.common.losses import LossKind, restoration_losses
from thfr.methods.common.optimisation import AdamConfig
from thfr.methods.common.residual import BlockKind
from thfr.methods.common.restoring import RestoringDetector
from thfr.methods.common.trained import TrainedDetector
from thfr.methods.rd4ad.network import MIRRORS, OTHERS, Mirror, ReverseDistillation
from thfr.methods.registry import register_method


class RD4ADModelConfig(ModelConfig):
    """The student network; by default it mirrors its backbone."""

    block: BlockKind | None = None
    """Residual blocks: basic (two 3x3 convolutions) or bottleneck (1x1, 3x3, 1x1); None: the backbone's."""
    blocks: int | None = Field(default=None, ge=1)
    """Residual blocks a level, and of the embedding; None: as many as the backbone has."""

    @property
    def mirror(self) -> Mirror:
        """The blocks of embedding and decoder."""
        own = MIRRORS.get(self.spec.architecture, OTHERS)
        blocks = own.blocks if self.blocks is None else (self.blocks,) * 3
        return Mirror(self.block or own.kind, blocks, self.blocks or own.embedding_blocks, own.rectified)


class RD4ADTrainingConfig(AdamConfig):
    """How the student is fitted: by default as in section 4.1."""

    epochs: int = Field(default=200, ge=1)
    batch_size: int = Field(default=16, ge=1)
    learning_rate: float = Field(default=5e-3, gt=0)
    betas: tuple[float, float] = (0.5, 0.999)
    loss: LossKind = "flattened"
    """See :func:`thfr.methods.common.losses.restoration_losses`."""


class RD4ADConfig(RunConfig):
    """A run of RD4AD."""

    title: ClassVar[str] = "RD4AD"
    paper: ClassVar[str] = (
        "Deng and Li, Anomaly Detection via Reverse Distillation from One-Class Embedding, CVPR 2022"
    )

    method: Literal["rd4ad"] = "rd4ad"
    model: RD4ADModelConfig = RD4ADModelConfig()
    training: RD4ADTrainingConfig = RD4ADTrainingConfig()


@register_method("rd4ad", RD4ADConfig)
class RD4ADDetector(TrainedDetector[RD4ADConfig], RestoringDetector[RD4ADConfig]):
    """Teacher and student."""

    network: ReverseDistillation

    @staticmethod
    def make_network(config: RD4ADConfig, extractor: FeatureExtractor) -> ReverseDistillation:
        pyramid = extractor.spec.kind == "pyramid"
        return ReverseDistillation(extractor.channels, config.model.mirror, pyramid)

    @classmethod
    def fit(
        cls, config: RD4ADConfig, extractor: FeatureExtractor, context: FitContext
    ) -> tuple[RD4ADDetector, dict[str, Any]]:
        started = time.monotonic()
        settings, device = config.training, context.device
        store = context.compute_features(extractor)
        network = cls.seeded_network(config, extractor, device)
        optimiser = settings.optimiser(network, len(store), device)

        def losses(step: int) -> dict[str, Tensor]:
            chosen = batch_indices(len(store), settings.batch_size, settings.seed, step)
            wanted = store.gather(distributed.mine(chosen), device)
            with optimiser.computing():
                restored = network(wanted)
            return restoration_losses(wanted, [level.float() for level in restored], settings.loss)

        try:
            seconds = optimiser.run(losses, context, started)
        finally:
            store.close()
        metadata = {"train_seconds": round(seconds, 3), "precision": optimiser.precision}
        return cls(config, extractor, network, device), metadata

    def restorations(self, features: list[Tensor]) -> list[Tensor]:
        with torch.inference_mode(), self._computing():
            restored = self._stage("restoration", lambda: self.network(features))
        return [level.to(like.dtype) for level, like in zip(restored, features, strict=True)]
