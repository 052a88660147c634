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
from thfr.methods.template.usual import Found, Usual
from thfr.random_streams import drawn, generator

_CANDIDATES, _PROJECTION = 21, 22  # random streams
_BATCH = 8
AROUND = 8
"""Patches of the memory that say together what is usual; one alone would be chance."""


class PatchMemory:
    """``patches``, fp16 [M,D], of good images; ``owners``, int64 [M]: the row of the bank each is from;
    ``usual``: of each, what good images that the memory does not hold differ by.
    """

    def __init__(self, patches: Tensor, owners: Tensor, usual: Usual | None = None) -> None:
        self.patches, self.owners = patches, owners
        self.usual = Usual.unknown(patches) if usual is None else usual

    def __len__(self) -> int:
        return len(self.patches)

    def distances(
        self,
        levels: Sequence[Tensor],  # three [B,C_l,H_l,W_l]
    ) -> Tensor:  # fp32 [B,H,W]
        """1 - cosine similarity of each location's patch to the most similar one, in proportion to what is
        usual there.
        """
        return self.usual.proportion(self.find(levels, around=AROUND if self.usual.known else 1))

    def find(
        self,
        levels: Sequence[Tensor],  # three [B,C_l,H_l,W_l]
        without: Tensor | None = None,  # int64 [n]: rows of the bank whose patches do not count
        around: int = AROUND,
    ) -> Found:
        """The ``around`` most similar patches. Of those each has a share by how much more similar it is than
        the last of them: a share that ends at 0, so that no rounding changes an answer.
        """
        queries, patches, places = patch_vectors(levels), self.patches, None
        if without is not None:
            others = ~torch.isin(self.owners, without)
            if bool(others.any()):
                patches, places = patches[others], others.nonzero()[:, 0]
        count = min(around, len(patches))
        similarity, nearest = thfr_ext.nearest_templates(
            location_vectors(queries), patches, k=count, metric="cosine"
        )
        above = similarity - similarity[:, -1:] + 1e-6
        found = nearest if places is None else places[nearest]
        difference = (1 - similarity[:, 0]).view(-1, *queries.shape[2:])
        return Found(difference, found, above / above.sum(1, keepdim=True))

    def to(self, device: torch.device | str) -> PatchMemory:
        """The memory on another device."""
        return PatchMemory(self.patches.to(device), self.owners.to(device), self.usual.to(device))

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
        for tensor in (self.usual.squares, self.usual.counts):
            if tensor.shape != self.patches.shape[:1]:
                shape = list(tensor.shape)
                raise InputError(f"template: usual differences must be [{len(self.patches)}], got {shape}")

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
        each = levels[1].shape[2] * levels[1].shape[3]
        total = len(levels[0]) * each
        count = min(candidates, total)
        chosen = drawn(total, count, generator(seed, _CANDIDATES, 0))
        patches = _patches(levels, chosen, each)
        unrelated = float(1 - patches.mean(0, dtype=torch.float64).square().sum())
        if size < len(patches):
            rng = generator(seed, _PROJECTION, 0)
            matrix = torch.randn(patches.shape[1], projection, generator=rng).to(patches.device)
            core = thfr_ext.greedy_coreset(patches.float() @ matrix, size, seed).sort().values
            patches, chosen = patches[core], chosen[core.cpu()]
        return cls(patches, chosen // each), unrelated


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
