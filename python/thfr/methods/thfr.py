"""THFR as one of the methods: frozen extractor, restoration network, template bank."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

import thfr_ext
from thfr.backbones import FeatureExtractor
from thfr.config import THFRConfig
from thfr.errors import InputError
from thfr.methods.base import Detector, Material, Precision, Templates
from thfr.models.bank import TemplateBank
from thfr.models.network import THFRNetwork
from thfr.models.tensors import part
from thfr.models.threshold import Threshold

__all__ = ["THFRConfig", "THFRDetector"]

_NETWORK, _BANK = "network.", "bank."  # prefixes in the state
_GOOD = 64  # templates scored as good images; enough to know their range, seconds on a CPU
_BATCH = 8


class THFRDetector(Detector[THFRConfig]):
    """Template-guided hierarchical feature restoration (Guo et al., ICCV 2023).

    The map is the sum over the levels of the cosine distance between extracted and restored features, the
    score its maximum. ``bank`` is None for the variants without compensation.
    """

    RESTORES = True

    def __init__(
        self,
        config: THFRConfig,
        extractor: FeatureExtractor,
        network: THFRNetwork,
        bank: TemplateBank | None,
        device: torch.device | str = "cpu",
        precision: Precision = "fp32",
        threshold: Threshold | None = None,
    ) -> None:
        super().__init__(config, extractor, device, precision, threshold)
        self.network: THFRNetwork = self._placed(network)
        self.bank = None if bank is None else bank.to(self.device)

    @classmethod
    def fit(
        cls, config: THFRConfig, extractor: FeatureExtractor, material: Material
    ) -> tuple[THFRDetector, dict[str, Any]]:
        from thfr.training.restoration import fit_restoration  # which makes detectors

        return fit_restoration(config, extractor, material)

    @torch.inference_mode()
    def restored(self, features: list[Tensor], templates: list[Tensor] | None) -> list[Tensor]:
        """The network's output for given templates, of the features' dtype."""
        with self._computing():
            restored = self.network(features, templates)
        return [level.to(like.dtype) for level, like in zip(restored, features, strict=True)]

    @torch.inference_mode()
    def restore(
        self, features: list[Tensor], templates: Templates = "nearest", seed: int = 0
    ) -> tuple[list[Tensor], Tensor | None]:
        """The restored features, and the templates' places in the bank [B,K] (None without compensation)."""
        if self.bank is None:
            if templates != "nearest":
                raise InputError(f"Detector: {self.config.label} has no templates to shuffle")
            return self._stage("restoration", lambda: self.restored(features, None)), None
        bank, count = self.bank, self.config.model.template_count

        def retrieved() -> tuple[Tensor, list[Tensor]]:
            batch = len(features[0])
            chosen = (
                bank.nearest(features, count=count)
                if templates == "nearest"
                else bank.random(batch, seed, count)
            )
            return chosen, bank.gather(chosen)

        places, found = self._stage("retrieval", retrieved)
        return self._stage("restoration", lambda: self.restored(features, found)), places

    def restorations(self, features: list[Tensor]) -> list[Tensor]:
        return self.restore(features)[0]

    def _score(self, images: Tensor) -> tuple[Tensor, Tensor]:
        return self._scored(images, "nearest", 0)

    def _score_shuffled(self, images: Tensor, seed: int) -> tuple[Tensor, Tensor]:
        return self._scored(images, "random", seed)

    def _scored(self, images: Tensor, templates: Templates, seed: int) -> tuple[Tensor, Tensor]:
        features = self._stage("extractor", lambda: self.features(images))
        restored, _ = self.restore(features, templates, seed)
        return self._stage("scoring", lambda: self._map(features, restored))

    def _map(self, features: list[Tensor], restored: list[Tensor]) -> tuple[Tensor, Tensor]:
        return thfr_ext.anomaly_map(features, restored, (self.size, self.size), sigma=4.0, combine="sum")

    @torch.inference_mode()
    def _maps_of_templates(self, bank: TemplateBank) -> Iterator[Tensor]:
        places = torch.arange(0, len(bank), max(1, len(bank) // _GOOD))[:_GOOD]
        for chosen in places.split(_BATCH):
            features = bank.gather(chosen)
            templates = bank.retrieve(features, bank.rows[chosen], self.config.model.template_count)
            yield self._map(features, self.network(features, templates))[0]

    def good_maps(self) -> Iterator[Tensor] | None:
        """Maps of (at most 64 of) the templates, each with the ones that it would find were it not in the
        bank itself; None with fewer than two.
        """
        if self.bank is None or len(self.bank) < 2:
            return None
        return self._maps_of_templates(self.bank)

    def state(self) -> dict[str, Tensor]:
        state = {f"{_NETWORK}{name}": tensor for name, tensor in self.network.state_dict().items()}
        if self.bank is not None:
            state |= {f"{_BANK}level{number}": level for number, level in enumerate(self.bank.features)}
            state[f"{_BANK}rows"] = self.bank.rows
        return state

    @classmethod
    def from_state(
        cls,
        config: THFRConfig,
        extractor: FeatureExtractor,
        state: dict[str, Tensor],
        device: torch.device,
        precision: Precision,
    ) -> THFRDetector:
        network = THFRNetwork(config.model, extractor.channels)
        network.load_state_dict(part(state, _NETWORK), strict=True)
        bank = None
        if config.model.uses_templates:
            held = part(state, _BANK)
            levels = [held[f"level{number}"] for number in range(3)]
            bank = TemplateBank(levels, held["rows"], config.model.key_cells)
        return cls(config, extractor, network, bank, device, precision)
