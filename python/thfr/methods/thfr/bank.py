"""The template bank: features of normal training images, found again by image-level nearest neighbour.

The search key is the whole coarse level, layout and all (at 256 x 256 and 256 channels: 65,536 numbers). A
key averaged over the image says which texture there is but not where, and the template it finds is nearly
random.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

import thfr_ext


class TemplateBank:
    """Features of N normal images at three levels, kept as fp16 on the CPU or a GPU.

    ``features``: three tensors [N,C_l,H_l,W_l]; ``rows`` int64 [N]: for each template the number of its
    training image. ``key_cells``: cells a side of the search key, the coarse level averaged; None: all of
    them.
    """

    def __init__(self, features: list[Tensor], rows: Tensor, key_cells: int | None = None) -> None:
        if len(features) != 3 or any(level.dim() != 4 for level in features):
            raise ValueError(
                f"TemplateBank: features must be three [N,C,H,W] tensors, got {_shapes(features)}"
            )
        if rows.shape != (features[0].shape[0],) or any(len(level) != len(rows) for level in features):
            raise ValueError(
                f"TemplateBank: rows must be [N], got {list(rows.shape)} for {_shapes(features)}"
            )
        if len(rows) == 0:
            raise ValueError("TemplateBank: needs at least one template, got none")
        self.features, self.rows, self.key_cells = features, rows.to(torch.int64).cpu(), key_cells
        self._keys: Tensor | None = None

    @classmethod
    def build(
        cls,
        features: list[Tensor],  # three [N,C_l,H_l,W_l], of N training images
        rows: Tensor | None = None,  # int64 [N], their numbers; None: 0 to N - 1
        key_cells: int | None = None,
    ) -> TemplateBank:
        """A bank of all these images. The tensors are shared, not copied, if they are fp16 already."""
        numbers = torch.arange(len(features[0])) if rows is None else rows
        return cls([level.to(torch.float16) for level in features], numbers, key_cells)

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def keys(self) -> Tensor:
        """Search keys [N,D], fp32 and L2-normalised; see :func:`key_of`."""
        if self._keys is None:
            self._keys = key_of(self.features, self.key_cells)
        return self._keys

    def subsample(self, ratio: float, method: str = "coreset", seed: int = 0) -> TemplateBank:
        """Keep ``ceil(ratio * N)`` templates: a random choice, or k-centre greedy on the keys ("coreset")."""
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
        return TemplateBank(kept, self.rows[chosen], self.key_cells)

    def nearest(
        self,
        features: list[Tensor],  # three [B,C_l,H_l,W_l]
        exclude: Tensor | None = None,  # int64 [B]: the training image each query is, or -1
        count: int = 1,
    ) -> Tensor:
        """The places in the bank of each query's ``count`` nearest templates, the nearest first, int64
        [B,count]; never that of the excluded image. All of them where the bank holds fewer.
        """
        count = min(count, len(self) if exclude is None else max(len(self) - 1, 1))
        own = None if exclude is None else self._places(exclude).to(features[2].device)
        queries = key_of(features, self.key_cells)
        return thfr_ext.nearest_templates(queries, self.keys, k=count, metric="cosine", exclude=own)[1]

    def random(self, images: int, seed: int, count: int = 1) -> Tensor:
        """Random places in the bank, int64 [images,count]: a control that shows whether templates matter."""
        return torch.randint(0, len(self), (images, count), generator=torch.Generator().manual_seed(seed))

    def gather(self, places: Tensor) -> list[Tensor]:
        """The templates' features at ``places`` [...]: three fp32 tensors [...,C_l,H_l,W_l].

        A place of -1, as of a query that is not finite, has no template: its features are NaN.
        """
        found = []
        for level in self.features:
            at = places.to(level.device)
            features = level[at.clamp_min(0)].float()
            found.append(features.masked_fill((at < 0).reshape(*at.shape, 1, 1, 1), torch.nan))
        return found

    def retrieve(self, features: list[Tensor], exclude: Tensor | None = None, count: int = 1) -> list[Tensor]:
        """The nearest templates' features for each query: three fp32 tensors [B,count,C_l,H_l,W_l]; see
        :meth:`nearest`.
        """
        return self.gather(self.nearest(features, exclude, count))

    def to(self, device: torch.device | str) -> TemplateBank:
        """The bank on another device."""
        return TemplateBank([level.to(device) for level in self.features], self.rows, self.key_cells)

    def _places(self, images: Tensor) -> Tensor:
        """Where in the bank the given training images are; -1 for those that are not."""
        found = images.cpu()[:, None] == self.rows[None]
        return torch.where(found.any(1), found.float().argmax(1), torch.full((len(images),), -1))


def key_of(features: list[Tensor], cells: int | None = None) -> Tensor:
    """The search key of images with the given features, L2-normalised fp32: the coarse level as it is,
    [B,C_3*H_3*W_3], or averaged to ``cells`` x ``cells`` places, [B,C_3*cells*cells].
    """
    coarse = features[2].float()
    if cells is not None:
        coarse = F.adaptive_avg_pool2d(coarse, cells)
    return F.normalize(coarse.flatten(1), dim=1)


def _shapes(features: list[Tensor]) -> str:
    return ", ".join(str(list(level.shape)) for level in features)
