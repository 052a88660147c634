"""DRAEM as one of the methods: two networks on pixels, trained on simulated anomalies."""

from __future__ import annotations

import time
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.nn.utils import convert_conv2d_weight_memory_format

from thfr.backbones import FeatureExtractor
from thfr.methods.base import Detector, FitContext, Precision
from thfr.methods.common.batches import batch_rows
from thfr.methods.common.loop import optimise
from thfr.methods.common.precision import resolve_precision
from thfr.methods.draem.config import DRAEMConfig
from thfr.methods.draem.losses import focal_loss, structural_similarity
from thfr.methods.draem.networks import DRAEMNetwork
from thfr.methods.draem.simulation import simulate, turned
from thfr.methods.draem.textures import TextureSource
from thfr.methods.registry import register_method
from thfr.random_streams import generator
from thfr.runs.threshold import Threshold

_STREAM = 30  # of random draws
_DROPS = (4 / 7, 6 / 7)  # shares of the steps after which the learning rate drops to a tenth


@register_method("draem", DRAEMConfig)
class DRAEMDetector(Detector[DRAEMConfig]):
    """The map is the probability of "anomalous" after a mean filter, the score its maximum."""

    def __init__(
        self,
        config: DRAEMConfig,
        extractor: FeatureExtractor,
        network: DRAEMNetwork,
        device: torch.device | str = "cpu",
        precision: Precision = "fp32",
        threshold: Threshold | None = None,
    ) -> None:
        super().__init__(config, extractor, device, precision, threshold)
        self.network: DRAEMNetwork = convert_conv2d_weight_memory_format(
            self._placed(network), torch.channels_last
        )

    @classmethod
    def fit(
        cls, config: DRAEMConfig, extractor: FeatureExtractor, context: FitContext
    ) -> tuple[DRAEMDetector, dict[str, Any]]:
        started = time.monotonic()
        fitting = _Fitting(config, context)
        seconds = optimise(context, fitting.network, fitting.optimizer, fitting.total, fitting.step, started)
        facts = {"train_seconds": round(seconds, 3), "precision": fitting.precision}
        return cls(config, extractor, fitting.network, context.device), facts

    @torch.inference_mode()
    def _score(self, images: Tensor) -> tuple[Tensor, Tensor]:
        given = shrunk(images.to(self.device), self.config.model.edge).float().div_(255)
        with self._computing():
            _, logits = self._stage(
                "networks", lambda: self.network(given.contiguous(memory_format=torch.channels_last))
            )
        maps = self._stage("scoring", lambda: self._map(logits.float()))
        return maps, maps.amax(dim=(1, 2))

    def _map(self, logits: Tensor) -> Tensor:
        anomalous = logits.softmax(dim=1)[:, 1:]
        full = F.interpolate(anomalous, (self.size, self.size), mode="bilinear", align_corners=False)
        width = self.config.model.smoothing
        return F.avg_pool2d(full, width, stride=1, padding=width // 2, count_include_pad=False)[:, 0]

    def state(self) -> dict[str, Tensor]:
        return self.network.state_dict()

    @classmethod
    def from_state(
        cls,
        config: DRAEMConfig,
        extractor: FeatureExtractor,
        state: dict[str, Tensor],
        device: torch.device,
        precision: Precision,
    ) -> DRAEMDetector:
        network = DRAEMNetwork(config.model.reconstruction_width, config.model.discrimination_width)
        network.load_state_dict(state)
        return cls(config, extractor, network, device, precision)


class _Fitting:
    """What one fitting needs at every step."""

    def __init__(self, config: DRAEMConfig, context: FitContext) -> None:
        self.settings, self.device = config.training, context.device
        self.precision = resolve_precision(config.training.precision, context.device)
        self.images = shrunk(context.images, config.model.edge)
        self.textures = TextureSource(self.images, config.training.textures)
        self.total = config.training.steps(len(self.images))
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(config.training.seed)
            network = DRAEMNetwork(config.model.reconstruction_width, config.model.discrimination_width)
        self.network: DRAEMNetwork = convert_conv2d_weight_memory_format(
            network.to(context.device), torch.channels_last
        )
        self.optimizer = torch.optim.Adam(
            self.network.parameters(), lr=config.training.learning_rate, fused=True
        )

    def step(self, step: int) -> dict[str, float]:
        for group in self.optimizer.param_groups:
            group["lr"] = self.settings.learning_rate * rate_at(step, self.total)
        good, given, masks = (part.to(self.device) for part in self._batch(step))
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.precision == "bf16"):
            restored, logits = self.network(given.contiguous(memory_format=torch.channels_last))
        restored = restored.float()
        losses = {
            "squared": F.mse_loss(restored, good),
            "ssim": 1 - structural_similarity(restored, good).mean(),
            "focal": focal_loss(logits.float(), masks),
        }
        self.optimizer.zero_grad(set_to_none=True)
        torch.stack(list(losses.values())).sum().backward()
        self.optimizer.step()
        return {name: float(loss.detach()) for name, loss in losses.items()}

    def _batch(self, step: int) -> tuple[Tensor, Tensor, Tensor]:  # fp32 [B,3,E,E] twice, bool [B,E,E]
        """Good images, the same with simulated anomalies, and where these are."""
        settings = self.settings
        good, given, masks = [], [], []
        for place, row in enumerate(batch_rows(len(self.images), settings.batch_size, settings.seed, step)):
            rng = generator(settings.seed, _STREAM, step * settings.batch_size + place)
            image = self.images[row].float().div(255)
            if settings.rotation:
                image = turned(image, settings.rotation, rng)
            spoilt, mask = simulate(image, self.textures, settings.anomalous, rng)
            good.append(image)
            given.append(spoilt)
            masks.append(mask)
        return torch.stack(good), torch.stack(given), torch.stack(masks)


def shrunk(
    images: Tensor,  # uint8 [B,3,S,S]
    edge: int,
) -> Tensor:  # uint8 [B,3,edge,edge]
    """Images at the networks' size, anti-aliased bilinear."""
    if images.shape[-1] == edge:
        return images
    return F.interpolate(images, (edge, edge), mode="bilinear", antialias=True, align_corners=False)


def rate_at(step: int, total: int) -> float:
    """Factor on the learning rate: a tenth after each of the drops."""
    return float(0.1 ** sum(step >= drop * total for drop in _DROPS))
