"""PatchCore: a memory of patch features, thinned by a coreset.

Roth, Pemula, Zepeda, Schölkopf, Brox, Gehler, Towards Total Recall in Industrial Anomaly Detection, CVPR
2022: locally aware patch features (section 3.1), coreset-reduced memory bank (3.2), image score (3.3,
equations 6 and 7).

Where the paper leaves a choice, or this differs:
- Each level is averaged over neighbourhoods, then its channels are pooled to half of ``dimension``. A level
  with fewer stays as it is; ``level_scale`` equal_width scales it instead, which gives the distances that
  repeating its channels, as the paper's code does, would. On planted anomalies of six sets the former finds
  more (docs/results/methods.md).
- ``bank_limit`` and ``candidates`` bound bank and coreset where time is short; the paper has neither.
- The bank is kept as fp16.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator
from typing import Any, ClassVar, Literal, Protocol

import torch
from pydantic import Field, field_validator, model_validator
from torch import Tensor
from torch.nn import functional as F
from tqdm import tqdm

import thfr_ext
from thfr import distributed
from thfr.backbones import FeatureExtractor
from thfr.config import ModelConfig, RunConfig, TrainingConfig
from thfr.distributed.coreset import greedy_coreset_of_group
from thfr.errors import InputError
from thfr.methods.base import Detector
from thfr.methods.common.context import FitContext
from thfr.methods.common.features import feature_batches
from thfr.methods.common.patches import concatenated, location_vectors
from thfr.methods.registry import register_method
from thfr.random_streams import drawn, generator

_BATCH = 8  # images
_PROJECTION, _CANDIDATES = 5, 6  # independent random streams


class PatchCoreModelConfig(ModelConfig):
    """Patch features and the bank of them."""

    neighbourhood: int = Field(default=3, ge=1, le=15)
    """Edge of the square of locations, odd, over which a patch feature is averaged."""
    dimension: int = Field(default=1024, ge=2, multiple_of=2)
    """Most channels of a patch feature, half of them of each level."""
    level_scale: Literal["none", "equal_width"] = "none"
    """Of a level with fewer channels than half of ``dimension``: none, or as if it had that many."""
    bank_ratio: float = Field(default=0.1, gt=0, le=1)
    """Share of the training patches kept in the bank."""
    bank_limit: int | None = Field(default=None, ge=1)
    """Most patches kept in the bank, whatever ``bank_ratio`` says; None: no limit."""
    support: int = Field(default=9, ge=0)
    """Patches of the bank around the one that is nearest to an image's most anomalous patch, by which the
    image score is re-weighted; 0: it is not.
    """

    @field_validator("neighbourhood")
    @classmethod
    def _odd(cls, value: int) -> int:
        if value % 2 == 0:
            raise ValueError(f"expected an odd number, got {value}")
        return value


class PatchCoreTrainingConfig(TrainingConfig):
    """How the bank is chosen."""

    projection: int = Field(default=128, ge=1)
    """Dimensions of the random projection in which the coreset compares patches."""
    candidates: int | None = Field(default=None, ge=1)
    """Patches, drawn at random, that the coreset chooses from; None: all."""


class PatchCoreConfig(RunConfig):
    """A run of PatchCore."""

    title: ClassVar[str] = "PatchCore"
    paper: ClassVar[str] = "Roth et al., Towards Total Recall in Industrial Anomaly Detection, CVPR 2022"

    least_images: ClassVar[int] = 1

    method: Literal["patchcore"] = "patchcore"
    model: PatchCoreModelConfig = PatchCoreModelConfig()
    training: PatchCoreTrainingConfig = PatchCoreTrainingConfig()

    @model_validator(mode="before")
    @classmethod
    def _of_an_older_run(cls, values: Any) -> Any:
        """A run whose configuration does not say how levels were scaled was fitted at equal width."""
        if (
            isinstance(values, dict)
            and values.get("weights_digest")
            and isinstance(values.get("model"), dict)
        ):
            return {**values, "model": {"level_scale": "equal_width", **values["model"]}}
        return values


class PatchBank(Protocol):
    """A memory: rows that are searched by Euclidean distance (:mod:`thfr.banks` has larger ones)."""

    @property
    def width(self) -> int: ...
    def __len__(self) -> int: ...
    def search(self, queries: Tensor, k: int = 1) -> tuple[Tensor, Tensor]: ...
    def rows(self, indices: Tensor) -> Tensor: ...


class InMemory:
    """The memory of a run."""

    def __init__(self, patches: Tensor) -> None:
        self.patches, self.width = patches, patches.shape[1]

    def __len__(self) -> int:
        return len(self.patches)

    def search(self, queries: Tensor, k: int = 1) -> tuple[Tensor, Tensor]:
        scores, indices = thfr_ext.nearest_templates(queries, self.patches, k=k, metric="l2")
        return scores, indices

    def rows(self, indices: Tensor) -> Tensor:
        return self.patches[indices]


@register_method("patchcore", PatchCoreConfig)
class PatchCoreDetector(Detector[PatchCoreConfig]):
    """The map is the distance of each patch to the nearest one in the bank, ``patches``, fp16 [M,D]; the
    image score is the largest, re-weighted.
    """

    def __init__(
        self,
        config: PatchCoreConfig,
        extractor: FeatureExtractor,
        patches: Tensor,  # fp16 [M,D]
        *options: Any,
    ) -> None:
        super().__init__(config, extractor, *options)
        self.patches = patches.to(self.device)
        self.bank: PatchBank | None = None

    def with_bank(self, bank: PatchBank) -> PatchCoreDetector:
        """The same detector with another memory than its own: one in shards on disk, or an index of faiss.

        Raises:
            InputError: its rows are of another width.
        """
        if bank.width != self.patches.shape[1]:
            width = self.patches.shape[1]
            raise InputError(f"PatchCore: bank: expected rows of {width} values, got {bank.width}")
        other = copy.copy(self)
        other.bank = bank
        return other

    @classmethod
    def fit(
        cls, config: PatchCoreConfig, extractor: FeatureExtractor, context: FitContext
    ) -> tuple[PatchCoreDetector, dict[str, Any]]:
        """Two passes over the images instead of a store of patches: the first keeps what the coreset
        compares, the second the patches that it chose. So memory is that of the bank and ``projection``
        values a candidate. The processes of ``torchrun`` share the images, and so the candidates; each has
        the whole bank in the end, the same one as a single process to the bit (on CPUs).
        """
        total = len(context.images) * math.prod(config.model.grids[1])
        candidates = _candidates(total, config.training)
        size = bank_size(total, len(candidates), config.model)
        chosen = candidates
        if size < len(candidates):
            order = _chosen(config, extractor, context, candidates, size)
            chosen = candidates[order.cpu()].sort().values
        patches = _collected(config, extractor, context, chosen)
        metadata = {"patches": total, "candidates": len(candidates), "bank": size}
        return cls(config, extractor, patches, context.device), metadata

    @torch.inference_mode()
    def _score(self, images: Tensor) -> tuple[Tensor, Tensor]:
        model = self.config.model
        height, width = model.grids[1]
        features = self._stage("extractor", lambda: self.features(images))
        queries = location_vectors(patch_features(features, model))
        bank = InMemory(self.patches) if self.bank is None else self.bank
        found = self._stage("retrieval", lambda: bank.search(queries, 1))
        distances, nearest = (result.view(-1, height * width) for result in found)
        scores, worst_at = distances.max(1)
        if model.support:
            by_image = queries.view(-1, height * width, queries.shape[1])
            at = worst_at[:, None, None].expand(-1, 1, queries.shape[1])
            worst = by_image.gather(1, at)[:, 0]  # take_along_dim would fix the batch size of an export
            closest = nearest.gather(1, worst_at[:, None])[:, 0]
            scores = scores * reweighting(worst, closest, scores, bank, model.support)
        maps, _ = self._stage("scoring", lambda: self._smoothed([distances.view(-1, height, width)]))
        return maps, scores

    @torch.inference_mode()
    def taught(self, images: Tensor, learnt: int) -> PatchCoreDetector:
        """Of each image the share ``bank_ratio`` of its patches goes into the bank, always the one that is
        farthest from all that is there: what made it look anomalous. With a threshold more follow, until none
        is farther away than half of it. The bank may exceed ``bank_limit``.
        """
        model, patches = self.config.model, self.patches
        limit = float("inf") if self.threshold is None else self.threshold.value / 2
        for _, levels in feature_batches(self.extractor, images, self.device, batch_size=1):
            queries = location_vectors(patch_features(levels, model))
            distances = thfr_ext.nearest_templates(queries, patches, metric="l2")[0][:, 0]
            chosen: list[int] = []
            least = max(1, round(model.bank_ratio * len(queries)))
            while len(chosen) < least or float(distances.max()) > limit:
                chosen.append(int(distances.argmax()))
                new = queries[chosen[-1]]
                distances = torch.minimum(distances, (queries - new).square().sum(1).sqrt())
            patches = torch.cat([patches, queries[chosen].to(patches.dtype)])
        return self._renewed(patches=patches)

    def state(self) -> dict[str, Tensor]:
        return {"patches": self.patches}

    @classmethod
    def from_state(
        cls, config: PatchCoreConfig, extractor: FeatureExtractor, state: dict[str, Tensor], *options: Any
    ) -> PatchCoreDetector:
        patches = state["patches"]
        width = sum(min(config.model.dimension // 2, channels) for channels in extractor.channels[1:])
        if patches.dim() != 2 or patches.shape[1] != width or patches.dtype != torch.float16:
            got = f"{patches.dtype} {list(patches.shape)}"
            raise InputError(f"PatchCore: patches must be fp16 [M,{width}], got {got}")
        return cls(config, extractor, patches, *options)


def patch_features(
    levels: list[Tensor],  # three [B,C_l,H_l,W_l], the finest first
    model: PatchCoreModelConfig,
) -> Tensor:  # fp32 [B,D,H_2,W_2]
    """Locally aware patch features: levels 2 and 3 averaged over neighbourhoods (zeros beyond the border),
    the third up-sampled to the second, each with at most ``dimension / 2`` channels; equations 1 to 3.
    """
    width, edge = model.dimension // 2, model.neighbourhood
    parts = []
    for level in levels[1:]:
        part = F.avg_pool2d(level.float(), edge, stride=1, padding=edge // 2)
        if part.shape[1] > width:
            pooled = F.adaptive_avg_pool1d(part.flatten(2).transpose(1, 2), width)
            part = pooled.transpose(1, 2).unflatten(2, level.shape[2:])
        elif model.level_scale == "equal_width":
            part = part * math.sqrt(width / part.shape[1])
        parts.append(part)
    return concatenated(parts)


def reweighting(
    worst: Tensor,  # fp32 [B,D], each image's most anomalous patch
    nearest: Tensor,  # int64 [B], its nearest patch of the bank
    distances: Tensor,  # fp32 [B], to that
    bank: PatchBank,
    support: int,
) -> Tensor:  # fp32 [B]
    """The factor on the image score, equation 7: nearly 1 where the nearest patch of the bank is a rare one,
    far from the ``support`` patches of the bank around it (itself included), else down to
    ``1 - 1 / support``.
    """
    count = min(support, len(bank))
    around = bank.search(bank.rows(nearest), count)[1]
    others = (bank.rows(around.flatten()).unflatten(0, around.shape).float() - worst[:, None]).norm(dim=2)
    return 1 - (distances - others.logsumexp(1)).exp()


def bank_size(total: int, candidates: int, model: PatchCoreModelConfig) -> int:
    """Patches to keep of ``total``, at most as many as there are candidates."""
    wanted = max(1, round(model.bank_ratio * total))
    return min(wanted, candidates, model.bank_limit or wanted)


def _chosen(
    config: PatchCoreConfig, extractor: FeatureExtractor, context: FitContext, candidates: Tensor, size: int
) -> Tensor:  # int64 [size], places among the candidates
    """The coreset."""
    seed = config.training.seed
    own = _own(config, candidates)
    projected = _projected(config, extractor, context, candidates, int(own.sum()))
    if distributed.world() > 1:
        return greedy_coreset_of_group(projected, own.nonzero().flatten(), size, seed, context.progress)
    with tqdm(total=size, desc="coreset", unit="patch", disable=not context.progress) as bar:
        return thfr_ext.greedy_coreset(  # type: ignore[no-any-return]
            projected, size, seed, progress=lambda done, _: bar.update(done - bar.n)
        )


def _own(
    config: PatchCoreConfig,
    indices: Tensor,  # int64 [n], among all patches of all images
) -> Tensor:  # bool [n]
    """Which of these patches are of the image batches that this process takes."""
    batch = indices // math.prod(config.model.grids[1]) // _BATCH
    return batch % distributed.world() == distributed.rank()


def _candidates(total: int, training: PatchCoreTrainingConfig) -> Tensor:  # int64, ascending
    if training.candidates is None or training.candidates >= total:
        return torch.arange(total)
    rng = generator(training.seed, _CANDIDATES, 0)
    return drawn(total, training.candidates, rng)


def _selected(
    config: PatchCoreConfig,
    extractor: FeatureExtractor,
    context: FitContext,
    indices: Tensor,  # int64 [n], ascending, among all patches of all images
    description: str,
) -> Iterator[tuple[slice, Tensor]]:
    """These patches, an image batch of this process at a time: the part of ``indices`` that they are, and
    fp32 [.,D].
    """
    model = config.model
    each = math.prod(model.grids[1])
    batches = feature_batches(
        extractor,
        context.images,
        context.device,
        _BATCH,
        progress=context.progress,
        description=description,
        turns=True,
    )
    for image, levels in batches:
        first = image * each
        bounds = torch.tensor([first, first + len(levels[0]) * each])
        begin, end = torch.searchsorted(indices, bounds).tolist()
        if begin < end:
            patches = location_vectors(patch_features(levels, model))
            yield slice(begin, end), patches[(indices[begin:end] - first).to(patches.device)]


def _projected(
    config: PatchCoreConfig, extractor: FeatureExtractor, context: FitContext, indices: Tensor, own: int
) -> Tensor:  # fp32 [own,projection]
    """What the coreset compares: random projections (Johnson and Lindenstrauss) of this process's patches."""
    training = config.training
    rng = generator(training.seed, _PROJECTION, 0)
    projection, projected = None, torch.empty(own, training.projection, device=context.device)
    done = 0
    for _, patches in _selected(config, extractor, context, indices, "features"):
        if projection is None:
            projection = torch.randn(patches.shape[1], training.projection, generator=rng).to(patches)
        torch.mm(patches, projection, out=projected[done : done + len(patches)])
        done += len(patches)
    return projected


def _collected(
    config: PatchCoreConfig, extractor: FeatureExtractor, context: FitContext, indices: Tensor
) -> Tensor:  # fp16 [n,D]
    bank: Tensor | None = None
    for chosen, patches in _selected(config, extractor, context, indices, "bank"):
        if bank is None:
            bank = torch.empty(len(indices), patches.shape[1], dtype=torch.float16, device=context.device)
        bank[chosen] = patches
    return _together(bank, _own(config, indices))


def _together(bank: Tensor | None, own: Tensor) -> Tensor:
    """The rows of all processes; those of this one are ``own``."""
    if distributed.world() == 1:
        assert bank is not None
        return bank
    mine = None if bank is None else bank[own.to(bank.device)].cpu()
    parts = distributed.gather_objects((own.nonzero().flatten(), mine))
    like = next(rows for _, rows in parts if rows is not None)
    whole = like.new_empty(len(own), like.shape[1])
    for places, rows in parts:
        if rows is not None:
            whole[places] = rows
    return whole
