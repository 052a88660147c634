"""The template method: good images at the same place, and patches of good images from anywhere."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from thfr.backbones import FeatureExtractor
from thfr.errors import InputError
from thfr.methods.base import Detector
from thfr.methods.common.augmentation import augmented
from thfr.methods.common.bank import TemplateBank
from thfr.methods.common.context import FitContext, Precision
from thfr.methods.common.features import feature_batches
from thfr.methods.registry import register_method
from thfr.methods.template.calibration import say_of_parts, steadiness, unrelated_difference, weighted
from thfr.methods.template.config import TemplateConfig
from thfr.methods.template.counts import PartCounts
from thfr.methods.template.difference import template_difference
from thfr.methods.template.memory import PatchMemory
from thfr.runs.tensors import part

_BANK, _COUNTS = "bank.", "counts."  # prefixes in the state
_GOOD = 64  # images that tell what is normal; enough to know, seconds on a CPU
_FEW = 8  # images below which copies of them tell what is normal


@register_method("template", TemplateConfig)
class TemplateDetector(Detector[TemplateConfig]):
    """The map is a weighted sum of differences: of each level to the nearest templates, and of patches to the
    memory of all good images. With ``counts`` the score is its maximum times the root of how unusual the
    counts of the image are; the map stays as it is.

    Attributes: ``bank``, all good images; ``memories``, of each backbone a coreset of their patches, none for
    the arrangement alone; of each part (all levels, then the material of each backbone) ``peaks``, the median
    peak of good images, and ``say``, its share in the sum; ``counts``, of good images' parts, or None. All is
    made from the bank alone (:meth:`from_bank`), so a run learns more good images by a larger bank.
    """

    def __init__(
        self,
        config: TemplateConfig,
        extractor: FeatureExtractor | None,
        bank: TemplateBank,
        memories: list[PatchMemory],
        peaks: Tensor,  # fp32 [P]
        say: Tensor,  # fp32 [P]
        counts: PartCounts | None,
        *options: Any,
    ) -> None:
        super().__init__(config, extractor, *options)
        self.counts = None if counts is None else counts.to(self.device)
        self.bank = bank.to(self.device)
        self.memories = [memory.to(self.device) for memory in memories]
        self.peaks, self.say = peaks.to(self.device), say.to(self.device)
        self._good: list[list[Tensor]] | None = None  # parts of good images, where they were just made

    @classmethod
    def fit(
        cls, config: TemplateConfig, extractor: FeatureExtractor, context: FitContext
    ) -> tuple[TemplateDetector, dict[str, Any]]:
        """Features once; everything else is made from them (:meth:`from_bank`)."""
        images, indices = context.images, context.indices
        if len(images) < _FEW:
            copies = augmented(images, config.training.copies, config.training.seed)
            images = torch.cat([images, *copies])
            indices = indices.repeat(1 + len(copies))
        store = context.compute_features(extractor, images)
        levels = [level.clone() for level in store.levels] if store.mapped else store.levels
        bank = TemplateBank.of(levels, indices, config.model)
        detector = cls.from_bank(config, extractor, bank, context.device)
        metadata = {
            "templates": len(context.images),
            "copies": len(images) - len(context.images),
            "memory": sum(map(len, detector.memories)),
            "say": [round(share, 3) for share in detector.say.tolist()],
            "features_mapped": store.mapped,
        }
        store.close()
        return detector, metadata

    @classmethod
    def from_bank(
        cls,
        config: TemplateConfig,
        extractor: FeatureExtractor | None,
        bank: TemplateBank,
        device: torch.device | str = "cpu",
        precision: Precision = "fp32",
    ) -> TemplateDetector:
        """Make the memory and weigh the parts, from the features of good images alone.

        Rows of the bank with the same index are one image and copies of it.
        """
        model, settings = config.model, config.training
        if model.counts and not config.whole_images:
            raise InputError(
                "template: model.counts: expected whole images, got tiles, a letterbox or a region"
            )
        bank, memories, unrelated = bank.to(device), [], []
        if model.uses_templates:
            unrelated += [unrelated_difference(level) for level in bank.features]
        if model.parts != "arrangement":
            for levels in by_backbone(bank.features):
                memory, of_patches = PatchMemory.build(
                    levels, model.memory, settings.candidates, settings.projection, settings.seed
                )
                memories.append(memory)
                unrelated.append(of_patches)
        unknown = torch.ones(len(unrelated))
        counts = None
        if model.counts:
            counts = PartCounts.build(by_backbone(bank.features), _owners(bank), settings.seed)
        detector = cls(config, extractor, bank, memories, unknown, unknown, counts, device, precision)
        detector._weigh(torch.tensor(unrelated, device=detector.device))
        return detector

    def _weigh(
        self,
        unrelated: Tensor,  # fp32 [P]
    ) -> None:
        """Set :attr:`peaks` and :attr:`say`: of a backbone's parts by what they say, then of the backbones by
        how little the peaks of their sums vary.
        """
        good = list(self.leaving_out(torch.arange(len(self.bank))))
        self._good = good if len(self.bank.indices.unique()) == len(self.bank) else None
        peaks = [torch.cat([self._smoothed([part])[1] for part in parts]) for parts in good]
        self.peaks = torch.stack(peaks).median(0).values.clamp_min(1e-6)
        say = torch.empty_like(self.peaks)
        for numbers in self._parts_of_backbones():
            own = say_of_parts(self.peaks[numbers], unrelated[numbers])
            sums = [
                self._smoothed(weighted([parts[number] for number in numbers], self.peaks[numbers], own))[1]
                for parts in good
            ]
            say[numbers] = own * steadiness(torch.cat(sums))
        self.say = say / say.sum()

    def _parts_of_backbones(self) -> list[list[int]]:
        """For each backbone the numbers of its parts: its levels', and its material's, which are behind all
        levels.
        """
        levels = len(self.bank.features) if self.config.model.uses_templates else 0
        return [
            [
                *range(min(3 * one, levels), min(3 * one + 3, levels)),
                *([levels + one] if self.memories else []),
            ]
            for one in range(len(self.bank.features) // 3)
        ]

    @torch.inference_mode()
    def taught(self, images: Tensor, learnt: int) -> TemplateDetector:
        """The images join the bank; memory, peaks and say are made anew."""
        found = [levels for _, levels in feature_batches(self.extractor, images, self.device)]
        bank = self.bank.extended([torch.cat(level) for level in zip(*found, strict=True)])
        made = self.from_bank(self.config, self.extractor, bank, self.device, self.precision)
        names = ("bank", "memories", "peaks", "say", "counts", "_good")
        return self._renewed(**{name: getattr(made, name) for name in names})

    @torch.inference_mode()
    def _score(self, images: Tensor) -> tuple[Tensor, Tensor]:
        features = self._stage("extractor", lambda: self.features(images))
        parts: list[Tensor] = []
        model = self.config.model
        if model.uses_templates:
            templates = self._stage(
                "retrieval", lambda: self.bank.retrieve(features, count=model.template_count)
            )
            parts += self._stage("difference", lambda: self.arrangement(features, templates))
        if self.memories:
            parts += self._stage("memory", lambda: self.material(features))
        maps, scores = self._stage("scoring", lambda: self._smoothed(self.weighted(parts)))
        if (counts := self.counts) is not None:
            scores = scores * self._stage("counts", lambda: counts.unusual(by_backbone(features))).sqrt()
        return maps, scores

    def weighted(
        self,
        parts: list[Tensor],  # fp32 [B,h_p,w_p]: those of the arrangement, then of the material
    ) -> list[Tensor]:
        """The parts such that their sum is the map."""
        return weighted(parts, self.peaks, self.say)

    def arrangement(
        self,
        features: list[Tensor],  # [B,C_l,H_l,W_l]
        templates: list[Tensor],  # fp32 [B,K,C_l,H_l,W_l]
    ) -> list[Tensor]:  # of each level, fp32 [B,H_l,W_l]
        """The differences to the nearest templates."""
        model, parts = self.config.model, []
        for levels, of in zip(by_backbone(features), by_backbone(templates), strict=True):
            for level, template in zip(levels, of, strict=True):
                around = model.consensus * (level.shape[2] // levels[-1].shape[2])
                parts.append(template_difference(level.float(), template, model.reach, around))
        return parts

    def material(
        self,
        features: list[Tensor],  # [B,C_l,H_l,W_l]
        without: Tensor | None = None,  # int64 [n]: rows of the bank
    ) -> list[Tensor]:  # of each backbone, fp32 [B,H_2,W_2]
        """The distances to the memory's patches, but for those of some rows of the bank."""
        groups = zip(self.memories, by_backbone(features), strict=True)
        return [memory.distances(levels, without) for memory, levels in groups]

    @torch.inference_mode()
    def leaving_out(
        self,
        rows: Tensor,  # int64 [n]
    ) -> Iterator[list[Tensor]]:
        """For at most 64 of these rows of the bank, evenly spread, the parts [1,h_p,w_p] that they would give
        were their image (all tiles and copies of it) not in bank and memory; of a single image, its copies
        stand for others.
        """
        bank, model = self.bank, self.config.model
        owners = _owners(bank)
        spread = torch.linspace(0, len(rows) - 1, min(_GOOD, len(rows))).round().long()
        for row in rows[spread].tolist():
            features = bank.gather(torch.tensor([row]))
            own = owners == owners[row]
            parts: list[Tensor] = []
            if model.uses_templates:
                others = (~own).nonzero()[:, 0]
                similar = bank.keys[others.to(bank.keys.device)] @ bank.keys[row]
                nearest = others[similar.topk(min(model.template_count, len(others))).indices.cpu()]
                parts += self.arrangement(features, [level[None] for level in bank.gather(nearest)])
            if self.memories:
                parts += self.material(features, own.nonzero()[:, 0].to(self.device))
            yield parts

    def good_maps(self, learnt: Tensor | None = None) -> Iterator[Tensor] | None:
        """Maps of at most 64 good images, one at a time, each as if it were not in bank and memory; None
        where the bank holds tiles or images with parts that do not count.
        """
        if not self.config.whole_images:
            return None
        indices = self.bank.indices
        originals = torch.tensor([row for row in range(len(indices)) if indices[row] not in indices[:row]])
        if learnt is not None:
            originals = originals[torch.isin(indices[originals], learnt)]
        stored = self._good if learnt is None else None
        good = self.leaving_out(originals) if stored is None else stored
        return (self._smoothed(self.weighted(parts))[0] for parts in good)

    def nearest_templates(self, images: Tensor) -> Tensor | None:
        return self.bank.nearest_images(self, images) if self.config.model.uses_templates else None

    @property
    def template_count(self) -> int:
        return len(self.bank.indices.unique()) if self.config.model.uses_templates else 0

    def state(self) -> dict[str, Tensor]:
        state = {f"{_BANK}{name}": tensor for name, tensor in self.bank.state().items()}
        state |= {"peaks": self.peaks, "say": self.say}
        for number, memory in enumerate(self.memories):
            prefix = _memory(number)
            state |= {f"{prefix}patches": memory.patches, f"{prefix}owners": memory.owners}
        if self.counts is not None:
            state |= {f"{_COUNTS}{name}": tensor for name, tensor in self.counts.state().items()}
        return state

    @classmethod
    def from_state(
        cls, config: TemplateConfig, extractor: FeatureExtractor, state: dict[str, Tensor], *options: Any
    ) -> TemplateDetector:
        model = config.model
        bank = TemplateBank.from_state(part(state, _BANK), model, extractor.channels, "template")
        memories, count = [], len(bank.features) if model.uses_templates else 0
        if model.parts != "arrangement":
            for number, of in enumerate(by_backbone(bank.features)):
                prefix = _memory(number)
                memories.append(PatchMemory(state[f"{prefix}patches"], state[f"{prefix}owners"]))
                memories[-1].check(of)
            count += len(memories)
        for name in ("peaks", "say"):
            if state[name].shape != (count,):
                raise InputError(f"template: {name} must be [{count}], got {list(state[name].shape)}")
        counts = None
        if model.counts:
            counts = PartCounts.from_state(part(state, _COUNTS), by_backbone(bank.features))
        return cls(config, extractor, bank, memories, state["peaks"], state["say"], counts, *options)


def by_backbone(levels: list[Tensor]) -> list[list[Tensor]]:
    """Levels of a joined backbone, three and three; of another all."""
    return [levels[start : start + 3] for start in range(0, len(levels), 3)]


def _owners(bank: TemplateBank) -> Tensor:  # int64 [N]
    """Of each row of the bank the image that it is of, or a copy of; of a single image each copy's own."""
    owners = bank.indices // bank.tiles
    return owners if len(owners.unique()) > 1 else torch.arange(len(bank)) // bank.tiles


def _memory(number: int) -> str:
    """Prefix in the state of a backbone's memory."""
    return f"memory{number or ''}."
