"""THFR as one of the methods: frozen extractor, restoration network, template bank."""

from __future__ import annotations

from collections.abc import Iterator
from copy import copy
from itertools import islice
from typing import Any, cast

import torch
from torch import Tensor
from torch.nn import functional as F

import thfr_ext
from thfr.backbones import FeatureExtractor
from thfr.errors import InputError
from thfr.methods.common.bank import TemplateBank
from thfr.methods.common.context import FitContext, Precision
from thfr.methods.common.features import feature_batches
from thfr.methods.common.restoring import RestoringDetector
from thfr.methods.registry import register_method
from thfr.methods.thfr.config import THFRConfig
from thfr.methods.thfr.fitting import fit_restoration
from thfr.methods.thfr.making import make_network
from thfr.methods.thfr.network import RestorationNetwork
from thfr.methods.thfr.references import References
from thfr.runs.tensors import part

__all__ = ["THFRConfig", "THFRDetector"]

_NETWORK, _BANK, _REFERENCES = "network.", "bank.", "references."  # prefixes in the state
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
        self.references: References | None = None  # of ``parts: all``
        self.bank = None if bank is None else bank.to(self.device)
        self._next_random: int | None = None  # seed of the next image's random templates; None: the nearest

    @classmethod
    def fit(
        cls, config: THFRConfig, extractor: FeatureExtractor, context: FitContext
    ) -> tuple[THFRDetector, dict[str, Any]]:
        network, bank, metadata = fit_restoration(config, extractor, context)
        detector = cls(config, extractor, network, bank, context.device)
        detector.references = detector._made_references()
        return detector, metadata

    @torch.inference_mode()
    def _made_references(self) -> References | None:
        """What is asked beside the restoration, made from the bank; None where nothing is."""
        if self.config.model.parts == "restoration":
            return None
        bank = self._require_bank()
        references = References.made(self.config, bank, self.device)
        rows = _spread(torch.arange(len(bank)))
        own = [self._map(*pair)[1] for pair in self._restored_templates(bank, rows)]
        beside = [self._smoothed(maps)[1] for maps in references.of_bank(rows)]
        references.weigh(torch.cat(own), torch.cat(beside))
        return references

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
        other = self._renewed(
            bank=self.bank.extended([torch.cat(level) for level in zip(*found, strict=True)])
        )
        other.references = other._made_references()
        return other

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
        return self._restored(features, self._retrieved(features))

    def _retrieved(self, features: list[Tensor]) -> list[Tensor] | None:
        bank = self.bank
        if bank is None:
            return None
        return self._stage("retrieval", lambda: bank.gather(self.choose_templates(features)))

    def _restored(self, features: list[Tensor], templates: list[Tensor] | None) -> list[Tensor]:
        restored = self._stage("restoration", lambda: self.restored(features, templates))
        taught = None if self.bank is None else self.bank.added
        if taught is None:
            return restored
        accepted = taught.retrieve(features, count=self.config.model.template_count)
        return [nearer(*level) for level in zip(features, restored, accepted, strict=True)]

    def _score(self, images: Tensor) -> tuple[Tensor, Tensor]:
        references = self.references
        if references is None:
            return super()._score(images)
        features = self._stage("extractor", lambda: self.features(images))
        templates = cast(list[Tensor], self._retrieved(features))
        restored = self._restored(features, templates)
        beside = self._stage("references", lambda: references.of(features, templates))
        return self._stage(
            "scoring", lambda: self._smoothed(references.sum(distances(features, restored), beside))
        )

    def _restored_templates(
        self,
        bank: TemplateBank,
        rows: Tensor,  # int64 [N]
    ) -> Iterator[tuple[list[Tensor], list[Tensor]]]:
        """Features of these templates, and what they are restored to with the templates that they would find
        were they not in the bank themselves.
        """
        for chosen in rows.split(_BATCH):
            features = bank.gather(chosen)
            templates = bank.retrieve(features, bank.indices[chosen], self.config.model.template_count)
            yield features, self.network(features, templates)

    @torch.inference_mode()
    def _maps_of_templates(self, bank: TemplateBank, rows: Tensor) -> Iterator[Tensor]:
        references = self.references
        every = None if references is None else references.of_bank(rows)
        for features, restored in self._restored_templates(bank, rows):
            if references is None or every is None:
                yield self._map(features, restored)[0]
            else:
                parts = zip(*islice(every, len(features[0])), strict=True)
                beside = [torch.cat(part) for part in parts]
                yield self._smoothed(references.sum(distances(features, restored), beside))[0]

    def good_maps(self, learnt: Tensor | None = None) -> Iterator[Tensor] | None:
        """Maps fp32 [B,H,W] of at most 64 templates (:meth:`_restored_templates`); None with fewer than two.
        From stored features, so the extractor does not run: about as long as scoring 64 images takes behind
        it.
        """
        if self.bank is None or len(self.bank) < 2:
            return None
        rows = torch.arange(len(self.bank))
        if learnt is not None:
            rows = rows[torch.isin(self.bank.indices // self.config.model.tile_count, learnt)]
        return self._maps_of_templates(self.bank, _spread(rows))

    def state(self) -> dict[str, Tensor]:
        state = {f"{_NETWORK}{name}": tensor for name, tensor in self.network.state_dict().items()}
        if self.bank is not None:
            state |= {f"{_BANK}{name}": tensor for name, tensor in self.bank.state().items()}
        if self.references is not None:
            state |= {f"{_REFERENCES}{name}": tensor for name, tensor in self.references.state().items()}
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
        detector = cls(config, extractor, network, bank, *options)
        if config.model.parts == "all":
            held = part(state, _REFERENCES)
            detector.references = References.from_state(
                config, extractor, detector._require_bank(), held, detector.device
            )
        return detector


def _spread(
    rows: Tensor,  # int64 [N]
) -> Tensor:  # int64 [n]
    """At most 64 rows of a bank, evenly spread over these."""
    return rows[:: max(1, len(rows) // _GOOD)][:_GOOD]


def distances(
    features: list[Tensor],  # [B,C_l,H_l,W_l]
    restored: list[Tensor],  # [B,C_l,H_l,W_l]
) -> list[Tensor]:  # fp32 [B,H_l,W_l]
    """The cosine distance of each level."""
    return [thfr_ext.cosine_distance(*level) for level in zip(features, restored, strict=True)]


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
