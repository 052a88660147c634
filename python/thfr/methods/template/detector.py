"""The template method: good images at the same place, and patches of good images from anywhere."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from thfr.backbones import FeatureExtractor
from thfr.errors import InputError
from thfr.methods.base import Detector, FitContext, Precision
from thfr.methods.registry import register_method
from thfr.methods.template.calibration import Calibration
from thfr.methods.template.config import TemplateConfig
from thfr.methods.template.difference import template_difference
from thfr.methods.template.memory import PatchMemory, grid_of
from thfr.methods.thfr.augmentation import augmented
from thfr.methods.thfr.bank import TemplateBank
from thfr.runs.tensors import part
from thfr.runs.threshold import Threshold

_BANK, _MEMORY, _MEAN, _DEVIATION = "bank.", "memory.", "mean.", "deviation."  # prefixes in the state
_GOOD = 64  # images that tell what is normal; enough to know, seconds on a CPU
_FEW = 8  # images below which copies of them tell what is normal
_BATCH = 8


@register_method("template", TemplateConfig)
class TemplateDetector(Detector[TemplateConfig]):
    """The map is a sum of standardised differences: of each level to the nearest templates, and of patches to
    the memory of all good images.

    Attributes: ``bank``, all good images; ``memory``, a coreset of their patches, None for the arrangement
    alone; ``calibration``, what good images give. Good images can be added to bank and memory as they are;
    the calibration then wants to be made anew (:meth:`recalibrated`).
    """

    def __init__(
        self,
        config: TemplateConfig,
        extractor: FeatureExtractor,
        bank: TemplateBank,
        memory: PatchMemory | None,
        calibration: Calibration,
        device: torch.device | str = "cpu",
        precision: Precision = "fp32",
        threshold: Threshold | None = None,
    ) -> None:
        super().__init__(config, extractor, device, precision, threshold)
        self.bank = bank.to(self.device)
        self.memory = None if memory is None else memory.to(self.device)
        self.calibration = calibration.to(self.device)

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
        bank = TemplateBank(levels, indices, config.model.key_cells)
        detector = cls.from_bank(config, extractor, bank, context.device)
        metadata = {
            "templates": len(context.images),
            "copies": len(images) - len(context.images),
            "memory": 0 if detector.memory is None else len(detector.memory),
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
        """Make the memory and weigh the parts, from the features of good images alone."""
        bank = bank.to(device)
        memory = None
        if config.model.parts != "arrangement":
            settings = config.training
            memory = PatchMemory.build(
                bank.features, config.model.memory, settings.candidates, settings.projection, settings.seed
            )
        unknown = Calibration([], [])
        detector = cls(config, extractor, bank, memory, unknown, device, precision)
        good = list(detector._leaving_out())
        detector.calibration = Calibration.of([torch.cat(of_part) for of_part in zip(*good, strict=True)])
        return detector

    @torch.inference_mode()
    def _score(self, images: Tensor) -> tuple[Tensor, Tensor]:
        features = self._stage("extractor", lambda: self.features(images))
        parts: list[Tensor] = []
        model = self.config.model
        if model.uses_templates:
            templates = self._stage(
                "retrieval", lambda: self.bank.retrieve(features, count=model.template_count)
            )
            parts += self._stage("difference", lambda: self._arrangement(features, templates))
        if self.memory is not None:
            memory = self.memory
            parts.append(self._stage("memory", lambda: memory.distances(features)))
        return self._stage("scoring", lambda: self._smoothed(self.calibration.standardised(parts)))

    def _arrangement(
        self,
        features: list[Tensor],  # three [B,C_l,H_l,W_l]
        templates: list[Tensor],  # three [B,K,C_l,H_l,W_l]
    ) -> list[Tensor]:  # three fp32 [B,H_l,W_l]
        model, rows = self.config.model, features[-1].shape[2]
        return [
            template_difference(level.float(), of, model.reach, model.consensus * (level.shape[2] // rows))
            for level, of in zip(features, templates, strict=True)
        ]

    @torch.inference_mode()
    def _leaving_out(self) -> Iterator[list[Tensor]]:
        """For at most 64 good images, evenly spread, the parts [1,h_p,w_p] that they would give were they (and
        copies of them) not in bank and memory; of a single image, its copies stand for others.
        """
        bank, model = self.bank, self.config.model
        alone = len(bank.indices.unique()) == 1
        owners = torch.arange(len(bank)) if alone else bank.indices
        for row in torch.linspace(0, len(bank) - 1, min(_GOOD, len(bank))).round().long().tolist():
            others = (owners != owners[row]).nonzero()[:, 0]
            features = bank.gather(torch.tensor([row]))
            parts: list[Tensor] = []
            if model.uses_templates:
                similar = bank.keys[others.to(self.device)] @ bank.keys[row]
                nearest = others[similar.topk(min(model.template_count, len(others))).indices.cpu()]
                parts += self._arrangement(features, [level[None] for level in bank.gather(nearest)])
            if self.memory is not None:
                own = (owners == owners[row]).nonzero()[:, 0].to(self.device)
                parts.append(self.memory.distances_without(features, own))
            yield parts

    def good_maps(self) -> Iterator[Tensor] | None:
        """Maps fp32 [1,S,S] of at most 64 good images, each as if it were not in bank and memory."""
        return (self._smoothed(self.calibration.standardised(parts))[0] for parts in self._leaving_out())

    def nearest_templates(self, images: Tensor) -> Tensor | None:
        if not self.config.model.uses_templates:
            return None
        return self.bank.indices[self.bank.nearest(self.features(images))[:, 0].cpu()]

    @property
    def template_count(self) -> int:
        return len(self.bank.indices.unique()) if self.config.model.uses_templates else 0

    def state(self) -> dict[str, Tensor]:
        state = {f"{_BANK}level{number}": level for number, level in enumerate(self.bank.features)}
        state[f"{_BANK}rows"] = self.bank.indices
        if self.memory is not None:
            state |= {f"{_MEMORY}patches": self.memory.patches, f"{_MEMORY}owners": self.memory.owners}
        for number, (mean, deviation) in enumerate(
            zip(self.calibration.means, self.calibration.deviations, strict=True)
        ):
            state |= {f"{_MEAN}{number}": mean, f"{_DEVIATION}{number}": deviation}
        return state

    @classmethod
    def from_state(
        cls,
        config: TemplateConfig,
        extractor: FeatureExtractor,
        state: dict[str, Tensor],
        device: torch.device,
        precision: Precision,
    ) -> TemplateDetector:
        held = part(state, _BANK)
        levels = [held[f"level{number}"] for number in range(3)]
        model = config.model
        for level, channels in zip(levels, extractor.channels, strict=True):
            if level.dim() != 4 or level.shape[1] != channels or level.dtype != torch.float16:
                got = f"{level.dtype} {list(level.shape)}"
                raise InputError(f"template: the bank must be fp16 [N,{channels},H,W], got {got}")
        bank = TemplateBank(levels, held["rows"], model.key_cells)
        memory = None
        if model.parts != "arrangement":
            memory = PatchMemory(state[f"{_MEMORY}patches"], state[f"{_MEMORY}owners"])
        means, deviations = part(state, _MEAN), part(state, _DEVIATION)
        grids = [tuple(level.shape[2:]) for level in levels] if model.uses_templates else []
        if memory is not None:
            memory.check(levels)
            grids.append(grid_of(levels))
        for number, grid in enumerate(grids):
            for values in (means[str(number)], deviations[str(number)]):
                if tuple(values.shape) != grid:
                    got = list(values.shape)
                    raise InputError(f"template: statistics {number} must be {list(grid)}, got {got}")
        order = [str(number) for number in range(len(grids))]
        calibration = Calibration([means[n] for n in order], [deviations[n] for n in order])
        return cls(config, extractor, bank, memory, calibration, device, precision)
