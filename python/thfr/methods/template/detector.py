"""The template method: good images at the same place, and patches of good images from anywhere."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import torch
from torch import Tensor

from thfr.backbones import FeatureExtractor
from thfr.errors import InputError
from thfr.methods.base import Detector
from thfr.methods.common.context import FitContext, Precision
from thfr.methods.common.features import feature_batches
from thfr.methods.common.tiles import each_place
from thfr.methods.registry import register_method
from thfr.methods.template.calibration import say_of_parts, steadiness, unrelated_difference, weighted
from thfr.methods.template.config import TemplateConfig, TemplateModelConfig
from thfr.methods.template.difference import template_difference
from thfr.methods.template.memory import AROUND, PatchMemory
from thfr.methods.template.usual import Found, Usual
from thfr.methods.thfr.augmentation import augmented
from thfr.methods.thfr.bank import TemplateBank
from thfr.runs.tensors import part
from thfr.runs.threshold import Threshold

_BANK = "bank."  # prefix in the state
_GOOD = 64  # images that tell what is normal; enough to know, seconds on a CPU
_FEW = 8  # images below which copies of them tell what is normal


@register_method("template", TemplateConfig)
class TemplateDetector(Detector[TemplateConfig]):
    """The map is a weighted sum of differences: of each level to the nearest templates, and of patches to the
    memory of all good images.

    Attributes: ``bank``, all good images; ``memories``, of each backbone a coreset of their patches, none for
    the arrangement alone; of each part (all levels, then the material of each backbone) ``peaks``, the median
    peak of good images, and ``say``, its share in the sum. All is made from the bank alone
    (:meth:`from_bank`), so a run learns more good images by a larger bank.
    """

    def __init__(
        self,
        config: TemplateConfig,
        extractor: FeatureExtractor | None,
        bank: TemplateBank,
        memories: list[PatchMemory],
        peaks: Tensor,  # fp32 [P]
        say: Tensor,  # fp32 [P]
        device: torch.device | str = "cpu",
        precision: Precision = "fp32",
        threshold: Threshold | None = None,
    ) -> None:
        super().__init__(config, extractor, device, precision, threshold)
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
        bank = _bank(levels, indices, config.model)
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
        detector = cls(config, extractor, bank, memories, unknown, unknown, device, precision)
        detector._weigh(torch.tensor(unrelated, device=detector.device))
        return detector

    def _weigh(
        self,
        unrelated: Tensor,  # fp32 [P]
    ) -> None:
        """Set :attr:`peaks` and :attr:`say`: of a backbone's parts by what they say, then of the backbones by
        how little the peaks of their sums vary.
        """
        rows = torch.arange(len(self.bank))
        found = list(self._found_without(rows))
        if self.config.model.in_proportion and len(self.bank.indices.unique()) >= _FEW:
            for number, memory in enumerate(self.memories):
                for _, of in found:
                    memory.usual = memory.usual.with_image(of[number])
        good = list(self._in_proportion(rows, found))
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
        names = ("bank", "memories", "peaks", "say", "_good")
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
            parts += self._stage("difference", lambda: self._arrangement(features, templates))
        if self.memories:
            parts += self._stage("memory", lambda: self._material(features))
        return self._stage("scoring", lambda: self._smoothed(self._weighted(parts)))

    def _weighted(self, parts: list[Tensor]) -> list[Tensor]:
        return weighted(parts, self.peaks, self.say)

    def _arrangement(
        self,
        features: list[Tensor],  # [B,C_l,H_l,W_l]
        templates: list[Tensor],  # fp32 [B,K,C_l,H_l,W_l]
    ) -> list[Tensor]:  # of each level, fp32 [B,H_l,W_l]
        model, parts = self.config.model, []
        for levels, of in zip(by_backbone(features), by_backbone(templates), strict=True):
            for level, template in zip(levels, of, strict=True):
                around = model.consensus * (level.shape[2] // levels[-1].shape[2])
                parts.append(template_difference(level.float(), template, model.reach, around))
        return parts

    def _material(
        self,
        features: list[Tensor],  # [B,C_l,H_l,W_l]
    ) -> list[Tensor]:  # of each backbone, fp32 [B,H_2,W_2]
        groups = zip(self.memories, by_backbone(features), strict=True)
        return [memory.distances(levels) for memory, levels in groups]

    def _leaving_out(self, rows: Tensor) -> Iterator[list[Tensor]]:
        """For at most 64 of these rows of the bank, evenly spread, the parts [1,h_p,w_p] that they would give
        were their image not in bank and memory, nor among those that tell what is usual.
        """
        return self._in_proportion(rows, self._found_without(rows))

    def _in_proportion(
        self, rows: Tensor, found: Iterable[tuple[list[Tensor], list[Found]]]
    ) -> Iterator[list[Tensor]]:
        """The parts of what was found for these rows; of rows that tell what is usual, without themselves."""
        settling = set(_spread(torch.arange(len(self.bank))).tolist())
        for row, (parts, of) in zip(_spread(rows).tolist(), found, strict=True):
            material = []
            for memory, one in zip(self.memories, of, strict=True):
                usual = memory.usual
                if usual.known and row in settling:
                    usual = usual.with_image(one, times=-1)
                material.append(usual.proportion(one))
            yield parts + material

    @torch.inference_mode()
    def _found_without(self, rows: Tensor) -> Iterator[tuple[list[Tensor], list[Found]]]:
        """For at most 64 of these rows of the bank, evenly spread, the arrangement's parts [1,h_l,w_l] and
        what each memory would find, were their image (all tiles and copies of it) not in bank and memory; of
        a single image, its copies stand for others.
        """
        bank, model = self.bank, self.config.model
        around = AROUND if model.in_proportion else 1
        owners = bank.indices // model.tile_count
        if len(owners.unique()) == 1:
            owners = torch.arange(len(bank)) // model.tile_count
        for row in _spread(rows).tolist():
            features = bank.gather(torch.tensor([row]))
            own = owners == owners[row]
            parts: list[Tensor] = []
            if model.uses_templates:
                others = (~own).nonzero()[:, 0]
                similar = bank.keys[others.to(bank.keys.device)] @ bank.keys[row]
                nearest = others[similar.topk(min(model.template_count, len(others))).indices.cpu()]
                parts += self._arrangement(features, [level[None] for level in bank.gather(nearest)])
            without = own.nonzero()[:, 0].to(self.device)
            groups = zip(self.memories, by_backbone(features), strict=False)  # there may be no memory
            yield parts, [memory.find(levels, without, around) for memory, levels in groups]

    def good_maps(self) -> Iterator[Tensor] | None:
        """Maps of at most 64 good images, one at a time, each as if it were not in bank and memory; None
        where the bank holds tiles or images with parts that do not count.
        """
        if not self.config.leaves_out:
            return None
        indices = self.bank.indices
        originals = torch.tensor([row for row in range(len(indices)) if indices[row] not in indices[:row]])
        good = self._leaving_out(originals) if self._good is None else self._good
        return (self._smoothed(self._weighted(parts))[0] for parts in good)

    def nearest_templates(self, images: Tensor) -> Tensor | None:
        model = self.config.model
        if not model.uses_templates:
            return None
        found = [
            self.bank.indices[self.bank.nearest(self.features(tiles))[:, 0].cpu()] // model.tile_count
            for tiles, _, _ in each_place(images, model)
        ]
        return torch.stack(found).mode(0).values  # of an image in tiles: that of most of them

    @property
    def template_count(self) -> int:
        return len(self.bank.indices.unique()) if self.config.model.uses_templates else 0

    def state(self) -> dict[str, Tensor]:
        state = {f"{_BANK}level{number}": level for number, level in enumerate(self.bank.features)}
        state |= {f"{_BANK}rows": self.bank.indices, "peaks": self.peaks, "say": self.say}
        model = self.config.model
        for number, memory in enumerate(self.memories):
            prefix = _memory(number)
            state |= {f"{prefix}patches": memory.patches, f"{prefix}owners": memory.owners}
            if model.in_proportion:
                state |= {f"{prefix}squares": memory.usual.squares, f"{prefix}counts": memory.usual.counts}
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
        held, model = part(state, _BANK), config.model
        levels = [held[f"level{number}"] for number in range(len(extractor.channels))]
        for level, channels, grid in zip(levels, extractor.channels, model.grids, strict=True):
            wanted = (len(held["rows"]), channels, *grid)
            if level.shape != wanted or level.dtype != torch.float16:
                got = f"{level.dtype} {list(level.shape)}"
                raise InputError(f"template: the bank must be fp16 {list(wanted)}, got {got}")
        memories, count = [], len(levels) if model.uses_templates else 0
        if model.parts != "arrangement":
            for number, of in enumerate(by_backbone(levels)):
                prefix = _memory(number)
                usual = None
                if model.in_proportion:
                    usual = Usual(state[f"{prefix}squares"], state[f"{prefix}counts"])
                memories.append(PatchMemory(state[f"{prefix}patches"], state[f"{prefix}owners"], usual))
                memories[-1].check(of)
            count += len(memories)
        for name in ("peaks", "say"):
            if state[name].shape != (count,):
                raise InputError(f"template: {name} must be [{count}], got {list(state[name].shape)}")
        bank = _bank(levels, held["rows"], model)
        return cls(config, extractor, bank, memories, state["peaks"], state["say"], device, precision)


def _spread(rows: Tensor) -> Tensor:
    """At most 64 of them, evenly spread."""
    return rows[torch.linspace(0, len(rows) - 1, min(_GOOD, len(rows))).round().long()]


def by_backbone(levels: list[Tensor]) -> list[list[Tensor]]:
    """Levels of a joined backbone, three and three; of another all."""
    return [levels[start : start + 3] for start in range(0, len(levels), 3)]


def _memory(number: int) -> str:
    """Prefix in the state of a backbone's memory."""
    return f"memory{number or ''}."


def _bank(levels: list[Tensor], indices: Tensor, model: TemplateModelConfig) -> TemplateBank:
    return TemplateBank(levels, indices, model.key_cells, model.tile_count, model.place_weight)
