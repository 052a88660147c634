"""THFR as one of the methods: frozen extractor, restoration network, template bank."""

from __future__ import annotations

from collections.abc import Iterator
from copy import copy
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from thfr.backbones import FeatureExtractor
from thfr.errors import InputError
from thfr.methods.common.context import FitContext, Precision
from thfr.methods.common.features import feature_batches
from thfr.methods.common.restoring import RestoringDetector
from thfr.methods.registry import register_method
from thfr.methods.thfr.bank import TemplateBank
from thfr.methods.thfr.config import THFRConfig
from thfr.methods.thfr.fitting import fit_restoration
from thfr.methods.thfr.making import make_network
from thfr.methods.thfr.network import RestorationNetwork
from thfr.runs.tensors import part

__all__ = ["THFRConfig", "THFRDetector"]

_NETWORK, _BANK = "network.", "bank."  # prefixes in the state
_GOOD = 64  # templates scored as good images; enough to know their range, seconds on a CPU
_BATCH = 8


@register_method("thfr", THFRConfig)
class THFRDetector(RestoringDetector[THFRConfig]):
    """Template-guided hierarchical feature restoration (Guo et al., ICCV 2023).

    Args:
        bank: the templates; None for the variants without compensation.
    """

    def __init__(
        self,
        config: THFRConfig,
        extractor: FeatureExtractor,
        network: RestorationNetwork,
        bank: TemplateBank | None,
        device: torch.device | str = "cpu",
        precision: Precision = "fp32",
    ) -> None:
        super().__init__(config, extractor, device, precision)
        self.network: RestorationNetwork = self._placed(network)
        self.bank = None if bank is None else bank.to(self.device)
        self._next_random: int | None = None  # seed of the next image's random templates; None: the nearest

    @classmethod
    def fit(
        cls, config: THFRConfig, extractor: FeatureExtractor, context: FitContext
    ) -> tuple[THFRDetector, dict[str, Any]]:
        network, bank, metadata = fit_restoration(config, extractor, context)
        return cls(config, extractor, network, bank, context.device), metadata

    @torch.inference_mode()
    def restored(self, features: list[Tensor], templates: list[Tensor] | None) -> list[Tensor]:
        """The network's output for given templates, of the features' dtype."""
        with self._computing():
            restored = self.network(features, templates)
        return [level.to(like.dtype) for level, like in zip(restored, features, strict=True)]

    def with_bank(self, bank: TemplateBank) -> THFRDetector:
        """This detector with other templates."""
        self._require_bank()
        other = copy(self)
        other.bank = bank.to(self.device)
        return other

    def shuffled(self, seed: int) -> THFRDetector:
        """The control experiment that shows how much the templates matter: each image is compared with random
        templates instead of its nearest. ``seed`` and the number of images scored before choose them, so the
        detector that this gives is for one thread.

        Raises:
            InputError: a variant without templates.
        """
        self._require_bank()
        other = copy(self)
        other._next_random = seed
        return other

    @torch.inference_mode()
    def taught(self, images: Tensor, learnt: int) -> THFRDetector:
        """The images become templates, and what they show is accepted where an image shows it at the same
        place (see :meth:`restorations`): the network restores only what training has shown it.
        """
        if self.bank is None:
            return super().taught(images, learnt)
        found = [levels for _, levels in feature_batches(self.extractor, images, self.device)]
        return self._renewed(
            bank=self.bank.extended([torch.cat(level) for level in zip(*found, strict=True)])
        )

    def _require_bank(self) -> TemplateBank:
        if self.bank is None:
            raise InputError(f"THFR: the variant {self.config.label} has no templates")
        return self.bank

    def choose_templates(
        self,
        features: list[Tensor],  # three [B,C_l,H_l,W_l]
    ) -> Tensor:
        """Indices in the bank of the templates that the images are restored with, int64 [B,K], the first
        being the nearest.
        """
        bank, count = self._require_bank(), self.config.model.template_count
        if self._next_random is None:
            return bank.nearest(features, count=count)
        chosen = bank.random(len(features[0]), self._next_random, count)
        self._next_random += len(features[0])
        return chosen

    def nearest_templates(self, images: Tensor) -> Tensor | None:
        return None if self.bank is None else self.bank.nearest_images(self, images)

    @property
    def template_count(self) -> int:
        return 0 if self.bank is None else len(self.bank)

    def restorations(self, features: list[Tensor]) -> list[Tensor]:
        """With images that were taught (:meth:`taught`): at each location the features of one of the nearest
        of them, where they are nearer to the image's than the restored ones.
        """
        templates = None
        if self.bank is not None:
            bank = self.bank
            templates = self._stage("retrieval", lambda: bank.gather(self.choose_templates(features)))
        restored = self._stage("restoration", lambda: self.restored(features, templates))
        taught = None if self.bank is None else self.bank.added
        if taught is None:
            return restored
        accepted = taught.retrieve(features, count=self.config.model.template_count)
        return [nearer(*level) for level in zip(features, restored, accepted, strict=True)]

    @torch.inference_mode()
    def _maps_of_templates(self, bank: TemplateBank, learnt: Tensor | None) -> Iterator[Tensor]:
        rows = torch.arange(len(bank))
        if learnt is not None:
            rows = rows[torch.isin(bank.indices // self.config.model.tile_count, learnt)]
        spread = rows[:: max(1, len(rows) // _GOOD)][:_GOOD]
        for chosen in spread.split(_BATCH):
            features = bank.gather(chosen)
            templates = bank.retrieve(features, bank.indices[chosen], self.config.model.template_count)
            yield self._map(features, self.network(features, templates))[0]

    def good_maps(self, learnt: Tensor | None = None) -> Iterator[Tensor] | None:
        """Maps fp32 [B,H,W] of at most 64 templates, evenly spread over the bank, each restored with the ones
        that it would find were it not in the bank itself; None with fewer than two. From stored features, so
        the extractor does not run: about as long as scoring 64 images takes behind it.
        """
        if self.bank is None or len(self.bank) < 2:
            return None
        return self._maps_of_templates(self.bank, learnt)

    def state(self) -> dict[str, Tensor]:
        state = {f"{_NETWORK}{name}": tensor for name, tensor in self.network.state_dict().items()}
        if self.bank is not None:
            state |= {f"{_BANK}{name}": tensor for name, tensor in self.bank.state().items()}
        return state

    @classmethod
    def from_state(
        cls, config: THFRConfig, extractor: FeatureExtractor, state: dict[str, Tensor], *options: Any
    ) -> THFRDetector:
        network = make_network(config.model, extractor.channels)
        network.load_state_dict(part(state, _NETWORK), strict=True)
        bank = None
        if config.model.uses_templates:
            bank = TemplateBank.from_state(part(state, _BANK), config.model, extractor.channels, "THFR")
        return cls(config, extractor, network, bank, *options)


def nearer(
    features: Tensor,  # [B,C,H,W]
    restored: Tensor,  # [B,C,H,W]
    accepted: Tensor,  # [B,K,C,H,W]
) -> Tensor:  # [B,C,H,W], of the dtype of restored
    """At each location whichever of the restored and the accepted features has the smallest cosine distance
    to the image's.
    """
    candidates = torch.cat([restored[:, None], accepted.to(restored.dtype)], 1)
    best = F.cosine_similarity(features[:, None].float(), candidates.float(), dim=2).argmax(1)
    chosen = best[:, None, None].expand(-1, 1, *restored.shape[1:])
    return candidates.gather(1, chosen)[:, 0]
