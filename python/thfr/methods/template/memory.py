"""Material: patches of good images, from anywhere, that a patch of a new image is compared with.

After PatchCore (Roth et al., CVPR 2022): averaged over their neighbourhood, chosen by a greedy coreset. Here
every level is scaled to unit length first, so that each has the same say whatever its range.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

import thfr_ext
from thfr.errors import InputError
from thfr.methods.common.patches import location_vectors
from thfr.random_streams import drawn, generator

_CANDIDATES, _PROJECTION = 21, 22  # random streams
_BATCH = 8


class PatchMemory:
    """``patches``, fp16 [M,D], of good images; ``owners``, int64 [M]: the row of the bank each is from."""

    def __init__(self, patches: Tensor, owners: Tensor) -> None:
        self.patches, self.owners = patches, owners

    def __len__(self) -> int:
        return len(self.patches)

    def distances(
        self,
        levels: Sequence[Tensor],  # three [B,C_l,H_l,W_l]
        without: Tensor | None = None,  # int64 [n]: rows of the bank whose patches do not count
    ) -> Tensor:  # fp32 [B,H,W]
        """1 - cosine similarity of each location's patch to the most similar one."""
        queries, patches = patch_vectors(levels), self.patches
        if without is not None:
            others = ~torch.isin(self.owners, without)
            patches = patches[others] if bool(others.any()) else patches
        similarity, _ = thfr_ext.nearest_templates(location_vectors(queries), patches, metric="cosine")
        return 1 - similarity.view(-1, *queries.shape[2:])

    def to(self, device: torch.device | str) -> PatchMemory:
        """The memory on another device."""
        return PatchMemory(self.patches.to(device), self.owners.to(device))

    def check(
        self,
        levels: Sequence[Tensor],  # three [N,C_l,H_l,W_l]
    ) -> None:
        """InputError unless the patches are of such levels."""
        width = sum(level.shape[1] for level in levels[1:])
        if self.patches.dim() != 2 or self.patches.shape[1] != width or self.patches.dtype != torch.float16:
            got = f"{self.patches.dtype} {list(self.patches.shape)}"
            raise InputError(f"template: patches must be fp16 [M,{width}], got {got}")
        if self.owners.shape != self.patches.shape[:1]:
            shape = list(self.owners.shape)
            raise InputError(f"template: owners must be [{len(self.patches)}], got {shape}")

    @classmethod
    def build(
        cls,
        levels: Sequence[Tensor],  # three [N,C_l,H_l,W_l], of all images
        size: int,
        candidates: int,
        projection: int,
        seed: int,
    ) -> tuple[PatchMemory, float]:
        """``size`` patches (all, where there are fewer): a coreset of ``candidates`` drawn at random,
        compared in a random projection. Also the mean difference of two candidates.
        """
        patches, chosen = drawn_patches(levels, candidates, generator(seed, _CANDIDATES, 0))
        unrelated = float(1 - patches.mean(0, dtype=torch.float64).square().sum())
        if size < len(patches):
            rng = generator(seed, _PROJECTION, 0)
            matrix = torch.randn(patches.shape[1], projection, generator=rng).to(patches.device)
            core = thfr_ext.greedy_coreset(patches.float() @ matrix, size, seed).sort().values
            patches, chosen = patches[core], chosen[core.cpu()]
        return cls(patches, chosen // (levels[1].shape[2] * levels[1].shape[3])), unrelated


def patch_vectors(
    levels: Sequence[Tensor],  # three [B,C_l,H_l,W_l]
) -> Tensor:  # fp32 [B,D,H_2,W_2], the length of each vector 1
    """Levels two and three, averaged over 3 x 3 locations, at the grid of the second, of equal length."""
    size = levels[1].shape[2:]
    parts = []
    for level in levels[1:]:
        pooled = F.avg_pool2d(level.float(), 3, 1, 1, count_include_pad=False)
        if level.shape[2:] != size:
            pooled = F.interpolate(pooled, size=size, mode="bilinear", align_corners=False)
        parts.append(F.normalize(pooled, dim=1))
    return torch.cat(parts, 1) / len(parts) ** 0.5


def drawn_patches(
    levels: Sequence[Tensor],  # three [N,C_l,H_l,W_l], of all images
    count: int,
    rng: torch.Generator,
) -> tuple[Tensor, Tensor]:  # fp16 [n,D], int64 [n]
    """``count`` patches (all, where there are fewer) drawn at random; and their indices, ascending."""
    each = levels[1].shape[2] * levels[1].shape[3]
    total = len(levels[0]) * each
    chosen = drawn(total, min(count, total), rng)
    return _patches(levels, chosen, each), chosen


def _patches(
    levels: Sequence[Tensor],  # three [N,C_l,H_l,W_l]
    chosen: Tensor,  # int64 [n], ascending, among all patches of all images
    each: int,
) -> Tensor:  # fp16 [n,D]
    found = []
    for start in range(0, len(levels[0]), _BATCH):
        vectors = location_vectors(patch_vectors([level[start : start + _BATCH] for level in levels])).half()
        first = start * each
        inside = (chosen >= first) & (chosen < first + len(vectors))
        found.append(vectors[(chosen[inside] - first).to(vectors.device)])
    return torch.cat(found)
