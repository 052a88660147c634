"""The template bank of THFR and of the template method: features of normal training images, found again by
image-level nearest neighbour.

The search key is the whole coarse level, layout and all (at 256 x 256 and 256 channels: 65,536 numbers). A
key averaged over the image says which texture there is but not where, and the template it finds is nearly
random.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

import thfr_ext
from thfr.errors import InputError
from thfr.methods.common.tiles import current_places, each_place


class TemplateBank:
    """Features of N normal images at three levels, or three a backbone, kept as fp16 on the CPU or a GPU.

    Args:
        features: three tensors [N,C_l,H_l,W_l].
        indices: int64 [N], for each template the index of its training image; below -1 for one that was
            added later (:meth:`extended`), which is none.
        key_cells: cells a side of the search key, the coarse level averaged; None: all of them.
        tiles: of an image seen in tiles their number T; ``indices`` then are index * T + place of each tile.
        place_weight: of the tile's place in the key, beside its features.

    Raises:
        ValueError: features or indices of another shape, or no template.
    """

    def __init__(
        self,
        features: list[Tensor],
        indices: Tensor,
        key_cells: int | None = None,
        tiles: int = 1,
        place_weight: float = 0.2,
    ) -> None:
        if not features or len(features) % 3 or any(level.dim() != 4 for level in features):
            raise ValueError(
                f"TemplateBank: features must be three [N,C,H,W] tensors a backbone, got {_shapes(features)}"
            )
        if indices.shape != (features[0].shape[0],) or any(len(level) != len(indices) for level in features):
            raise ValueError(
                f"TemplateBank: indices must be [N], got {list(indices.shape)} for {_shapes(features)}"
            )
        if len(indices) == 0:
            raise ValueError("TemplateBank: needs at least one template, got none")
        self.features, self.indices, self.key_cells = features, indices.to(torch.int64).cpu(), key_cells
        self.tiles, self.place_weight = tiles, place_weight
        self._own = int((self.indices >= 0).sum())  # of training, which lie in front
        self._keys: Tensor | None = None
        self._added: TemplateBank | None = None

    @classmethod
    def build(
        cls,
        features: list[Tensor],  # three [N,C_l,H_l,W_l], of N training images
    ) -> TemplateBank:
        """A bank of all these images. The tensors are shared, not copied, if they are fp16 already."""
        return cls([level.to(torch.float16) for level in features], torch.arange(len(features[0])))

    @classmethod
    def of(cls, features: list[Tensor], indices: Tensor, model: Any) -> TemplateBank:
        """A bank of fp16 features with the kind of key that a method's ``model`` asks for."""
        return cls(features, indices, model.key_cells, model.tile_count, model.place_weight)

    def state(self) -> dict[str, Tensor]:
        """For a checkpoint: ``level0``, ``level1``, ... and ``rows``, the indices."""
        levels = {f"level{number}": level for number, level in enumerate(self.features)}
        return {**levels, "rows": self.indices}

    @classmethod
    def from_state(
        cls, held: dict[str, Tensor], model: Any, channels: Sequence[int], method: str
    ) -> TemplateBank:
        """The inverse of :meth:`state`.

        Raises:
            InputError: the levels are not those of ``model`` and ``channels``; begins with ``method``.
        """
        levels = [held[f"level{number}"] for number in range(len(channels))]
        for level, width, grid in zip(levels, channels, model.grids, strict=True):
            wanted = (len(held["rows"]), width, *grid)
            if level.shape != wanted or level.dtype != torch.float16:
                got = f"{level.dtype} {list(level.shape)}"
                raise InputError(f"{method}: the bank must be fp16 {list(wanted)}, got {got}")
        return cls.of(levels, held["rows"], model)

    def nearest_images(
        self,
        detector: Any,
        images: Tensor,  # uint8 [B,3,H,W]
    ) -> Tensor:  # int64 [B]
        """See :meth:`thfr.methods.Detector.nearest_templates`; of an image in tiles that of most of them."""
        model = detector.config.model
        found = [
            self.indices[self.nearest(detector.features(tiles))[:, 0].cpu()] // model.tile_count
            for tiles, _, _ in each_place(images, model)
        ]
        return torch.stack(found).mode(0).values

    def extended(
        self,
        features: list[Tensor],  # three [M,C_l,H_l,W_l]; of tiles, all of one image together
    ) -> TemplateBank:
        """A bank with these templates behind its own."""
        levels = [
            torch.cat([own, new.to(own.device, own.dtype)])
            for own, new in zip(self.features, features, strict=True)
        ]
        lowest = min(-1, int(self.indices.min()) // self.tiles)  # image -1 is no template's
        rows = torch.arange(len(features[0]))
        added = (lowest - 1 - rows // self.tiles) * self.tiles + rows % self.tiles
        return self._of(levels, torch.cat([self.indices, added]))

    @property
    def added(self) -> TemplateBank | None:
        """The templates that were added later (:meth:`extended`); None if there are none."""
        if self._added is None and self._own < len(self):
            levels = [level[self._own :] for level in self.features]
            self._added = self._of(levels, self.indices[self._own :])
        return self._added

    def __len__(self) -> int:
        return len(self.indices)

    @property
    def keys(self) -> Tensor:
        """Search keys [N,D], fp32; see :func:`key_of`, behind it the place of tiles."""
        if self._keys is None:
            self._keys = self._placed(key_of(self.features, self.key_cells), self.indices % self.tiles)
        return self._keys

    def _placed(
        self,
        keys: Tensor,  # fp32 [B,D], L2-normalised
        places: Tensor,  # int64 [B]
    ) -> Tensor:
        """Keys whose cosine is ``(cosine of features + weight * same place) / (1 + weight)``."""
        if self.tiles == 1 or self.place_weight == 0:
            return keys
        axes = F.one_hot(places.to(keys.device), self.tiles).to(keys)
        return torch.cat([keys, axes * self.place_weight**0.5], 1)

    def subsample(self, ratio: float, method: str = "coreset", seed: int = 0) -> TemplateBank:
        """Keep ``ratio * N`` templates, rounded, at least one: a random choice, or k-centre greedy on the
        keys ("coreset").

        Raises:
            ValueError: a ratio outside of (0, 1], or an unknown method.
        """
        if not 0 < ratio <= 1:
            raise ValueError(f"TemplateBank.subsample: ratio must be in (0, 1], got {ratio}")
        size = max(1, round(ratio * len(self)))
        if size == len(self):
            return self
        if method == "random":
            chosen = torch.randperm(len(self), generator=torch.Generator().manual_seed(seed))[:size]
        elif method == "coreset":
            chosen = thfr_ext.greedy_coreset(self.keys, size, seed=seed).cpu()
        else:
            raise ValueError(f'TemplateBank.subsample: method must be "random" or "coreset", got {method!r}')
        chosen = chosen.sort().values
        kept = [level[chosen.to(level.device)] for level in self.features]
        return self._of(kept, self.indices[chosen])

    def nearest(
        self,
        features: list[Tensor],  # three [B,C_l,H_l,W_l]
        exclude: Tensor | None = None,  # int64 [B]: the training image (or tile) each query is, or -1
        count: int = 1,
    ) -> Tensor:
        """Indices in the bank of each query's ``count`` nearest templates, the nearest first, int64
        [B,count]; never that of the excluded image. All of them where the bank holds fewer.

        Queries that are tiles have the place of the excluded tile or, without, the one that is being scored.
        """
        count = min(count, len(self) if exclude is None else max(len(self) - 1, 1))
        own = None if exclude is None else self._indices_of(exclude).to(features[2].device)
        places = (
            current_places(features[2].shape[0]) if exclude is None else exclude.clamp_min(0) % self.tiles
        )
        return self._search(self._placed(key_of(features, self.key_cells), places), own, count)

    def _search(
        self,
        queries: Tensor,  # fp32 [B,D]
        own: Tensor | None,  # int64 [B], in the bank, or -1
        count: int,
    ) -> Tensor:  # int64 [B,count]
        return thfr_ext.nearest_templates(queries, self.keys, k=count, metric="cosine", exclude=own)[1]

    def random(self, images: int, seed: int, count: int = 1) -> Tensor:
        """Random indices in the bank, int64 [images,count]: a control that shows whether templates matter."""
        return torch.randint(0, len(self), (images, count), generator=torch.Generator().manual_seed(seed))

    def gather(
        self,
        indices: Tensor,  # int64 [...], in the bank
    ) -> list[Tensor]:  # three fp32 [...,C_l,H_l,W_l]
        """The features of some templates; of index -1, that of a query that is not finite, NaN at the coarse
        level, where the query was.
        """
        found = []
        for number, level in enumerate(self.features):
            at = indices.to(level.device)
            features = level.index_select(0, at.clamp_min(0).flatten()).unflatten(0, at.shape).float()
            if number % 3 == 2:
                features = features + torch.where(at < 0, torch.nan, 0.0).reshape(*at.shape, 1, 1, 1)
            found.append(features)
        return found

    def retrieve(
        self,
        features: list[Tensor],  # three [B,C_l,H_l,W_l]
        exclude: Tensor | None = None,  # int64 [B]
        count: int = 1,
    ) -> list[Tensor]:  # three fp32 [B,count,C_l,H_l,W_l]
        """The features of each query's nearest templates; see :meth:`nearest`."""
        return self.gather(self.nearest(features, exclude, count))

    def to(self, device: torch.device | str) -> TemplateBank:
        """The bank on another device."""
        return self._of([level.to(device) for level in self.features], self.indices)

    def _of(self, features: list[Tensor], indices: Tensor) -> TemplateBank:
        return TemplateBank(features, indices, self.key_cells, self.tiles, self.place_weight)

    def _indices_of(self, images: Tensor) -> Tensor:
        """Indices in the bank of the given training images; -1 for those that are not in it."""
        found = images.cpu()[:, None] == self.indices[None]
        return torch.where(found.any(1), found.float().argmax(1), torch.full((len(images),), -1))


def key_of(features: list[Tensor], cells: int | None = None) -> Tensor:
    """The search key of images with the given features, L2-normalised fp32: the coarse level as it is,
    [B,C_3*H_3*W_3], or averaged to ``cells`` x ``cells``, [B,C_3*cells*cells]; of several backbones side by
    side, each with the same say.
    """
    keys = []
    for level in features[2::3]:
        coarse = level.float()
        if cells is not None:
            coarse = F.adaptive_avg_pool2d(coarse, cells)
        keys.append(F.normalize(coarse.flatten(1), dim=1))
    return keys[0] if len(keys) == 1 else torch.cat(keys, 1) / len(keys) ** 0.5


def _shapes(features: list[Tensor]) -> str:
    return ", ".join(str(list(level.shape)) for level in features)
