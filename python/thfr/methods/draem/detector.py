"""DRAEM as one of the methods: two networks on pixels, trained on simulated anomalies."""

from __future__ import annotations

import time
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.nn.utils import convert_conv2d_weight_memory_format

from thfr import distributed
from thfr.methods.common.batches import batch_indices
from thfr.methods.common.context import FitContext
from thfr.methods.common.optimisation import Optimiser
from thfr.methods.common.trained import TrainedDetector
from thfr.methods.draem.config import DRAEMConfig
from thfr.methods.draem.losses import focal_loss, structural_similarity
from thfr.methods.draem.networks import DRAEMNetwork
from thfr.methods.draem.simulation import simulate, turned
from thfr.methods.draem.textures import TextureSource
from thfr.methods.registry import register_method
from thfr.random_streams import generator

_STREAM = 30  # of random draws
_DROPS = (4 / 7, 6 / 7)  # shares of the steps after which the learning rate drops to a tenth


@register_method("draem", DRAEMConfig)
class DRAEMDetector(TrainedDetector[DRAEMConfig]):
    """The map is the probability of "anomalous" after a mean filter, the score its maximum."""

    network: DRAEMNetwork

    @staticmethod
    def make_network(config: DRAEMConfig, extractor: None) -> DRAEMNetwork:
        model = config.model
        network = DRAEMNetwork(model.reconstruction_width, model.discrimination_width)
        return convert_conv2d_weight_memory_format(network, torch.channels_last)

    @classmethod
    def fit(
        cls, config: DRAEMConfig, extractor: None, context: FitContext
    ) -> tuple[DRAEMDetector, dict[str, Any]]:
        started = time.monotonic()
        fitting = _Fitting(config, context)
        seconds = fitting.optimiser.run(fitting.losses, context, started)
        metadata = {"train_seconds": round(seconds, 3), "precision": fitting.optimiser.precision}
        return cls(config, None, fitting.network, context.device), metadata

    @torch.inference_mode()
    def _score(self, images: Tensor) -> tuple[Tensor, Tensor]:
        given = shrunk(images.to(self.device), self.config.model.seen).float().div_(255)
        with self._computing():
            _, logits = self._stage(
                "networks", lambda: self.network(given.contiguous(memory_format=torch.channels_last))
            )
        maps = self._stage("scoring", lambda: self._map(logits.float()))
        return maps, maps.amax(dim=(1, 2))

    def _map(self, logits: Tensor) -> Tensor:
        anomalous = logits.softmax(dim=1)[:, 1:]
        full = F.interpolate(anomalous, self.config.model.size, mode="bilinear", align_corners=False)
        width = self.config.model.smoothing
        return F.avg_pool2d(full, width, stride=1, padding=width // 2, count_include_pad=False)[:, 0]


class _Fitting:
    """What one fitting needs at every step."""

    def __init__(self, config: DRAEMConfig, context: FitContext) -> None:
        self.settings, self.device = config.training, context.device
        self.images = shrunk(context.images, config.model.seen)
        self.textures = TextureSource(self.images, config.training.textures)
        self.network: DRAEMNetwork = DRAEMDetector.seeded_network(config, None, context.device)
        self.optimiser = Optimiser.of(self.settings, self.network, len(self.images), self.device, drops)

    def losses(self, step: int) -> dict[str, Tensor]:
        good, given, masks = (part.to(self.device) for part in self._batch(step))
        with self.optimiser.computing():
            restored, logits = self.network(given.contiguous(memory_format=torch.channels_last))
        restored = restored.float()
        return {
            "squared": F.mse_loss(restored, good),
            "ssim": 1 - structural_similarity(restored, good).mean(),
            "focal": focal_loss(logits.float(), masks),
        }

    def _batch(self, step: int) -> tuple[Tensor, Tensor, Tensor]:  # fp32 [B,3,H,W] twice, bool [B,H,W]
        """Good images, the same with simulated anomalies, and where these are."""
        settings = self.settings
        good, given, masks = [], [], []
        chosen = batch_indices(len(self.images), settings.batch_size, settings.seed, step)
        for position, index in distributed.mine(list(enumerate(chosen))):
            rng = generator(settings.seed, _STREAM, step * settings.batch_size + position)
            image = self.images[index].float().div(255)
            if settings.rotation:
                image = turned(image, settings.rotation, rng)
            spoilt, mask = simulate(image, self.textures, settings.anomalous, rng)
            good.append(image)
            given.append(spoilt)
            masks.append(mask)
        return torch.stack(good), torch.stack(given), torch.stack(masks)


def shrunk(
    images: Tensor,  # uint8 [B,3,H,W]
    size: tuple[int, int],
) -> Tensor:  # uint8 [B,3,*size]
    """Images at the networks' size, anti-aliased bilinear."""
    if images.shape[2:] == size:
        return images
    return F.interpolate(images, size, mode="bilinear", antialias=True, align_corners=False)


def drops(step: int, total: int) -> float:
    """Factor on the learning rate: a tenth after each of the drops."""
    return float(0.1 ** sum(step >= drop * total for drop in _DROPS))
