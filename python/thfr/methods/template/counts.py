"""Counts: how much of each kind of patch an image has, and where roughly, against what good images have.

A rule on numbers ("two bolts") or on what goes with what (the label and its juice) breaks no place by itself:
each place is as in some good image. The histogram of the whole image is not. Patches are assigned softly to a
few prototypes, the assignments are averaged over a coarse grid of areas, and the distance is Mahalanobis' to
good images' histograms (square roots, as for Hellinger's distance), so that what varies together may do so.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

import torch
from scipy.cluster.vq import kmeans2
from torch import Tensor
from torch.nn import functional as F

from thfr.errors import InputError
from thfr.methods.template.memory import drawn_patches, patch_vectors
from thfr.random_streams import generator

_PATCHES = 12000  # that the prototypes are made of
_PROTOTYPES = 32
_AREAS = 4  # a side
_TEMPERATURE = 0.05  # of the assignment, in cosine similarity
_SHRINKAGE = 0.1  # of the covariance, towards a multiple of the identity: there are fewer images than bins
_FOLDS = 5
_STREAM = 23
_BATCH = 8


class PartCounts:
    """``prototypes``, of each backbone fp32 [K,D]; ``mean`` fp32 [b] and ``whitening`` fp32 [b,b] of good
    images' histograms; ``typical`` fp32 []: the median distance of a good image to those of the other folds.
    """

    def __init__(self, prototypes: list[Tensor], mean: Tensor, whitening: Tensor, typical: Tensor) -> None:
        self.prototypes, self.mean, self.whitening, self.typical = prototypes, mean, whitening, typical

    @classmethod
    def build(
        cls,
        groups: Sequence[Sequence[Tensor]],  # of each backbone three [N,C_l,H_l,W_l], of good images
        owners: Tensor,  # int64 [N]: rows of the same owner are one image and copies of it
        seed: int,
    ) -> PartCounts:
        """The counts of good images."""
        prototypes = [_prototypes(levels, seed) for levels in groups]
        histograms = torch.cat(
            [
                _histograms(
                    [[level[start : start + _BATCH] for level in levels] for levels in groups], prototypes
                )
                for start in range(0, len(owners), _BATCH)
            ]
        )
        order = owners.unique(return_inverse=True)[1].to(histograms.device)
        folds = order % min(_FOLDS, int(order.max()) + 1)
        distances = torch.zeros(len(owners), device=histograms.device)
        for fold in folds.unique() if len(folds.unique()) > 1 else []:
            distances[folds == fold] = _distances(
                histograms[folds == fold], *_gaussian(histograms[folds != fold])
            )
        typical = distances.median().clamp_min(1e-6)
        return cls(prototypes, *_gaussian(histograms), typical)

    def unusual(
        self,
        groups: Sequence[Sequence[Tensor]],  # of each backbone three [B,C_l,H_l,W_l]
    ) -> Tensor:  # fp32 [B]
        """How unusual the images' counts are: 1 is usual, 2 is twice as far off as a good image."""
        histograms = _histograms(groups, self.prototypes)
        return _distances(histograms, self.mean, self.whitening) / self.typical

    def to(self, device: torch.device | str) -> PartCounts:
        """The counts on another device."""
        rest = (tensor.to(device) for tensor in (self.mean, self.whitening, self.typical))
        return PartCounts([group.to(device) for group in self.prototypes], *rest)

    def state(self) -> dict[str, Tensor]:
        """For a checkpoint."""
        named = {f"prototypes{number}": group for number, group in enumerate(self.prototypes)}
        return {**named, "mean": self.mean, "whitening": self.whitening, "typical": self.typical}

    @classmethod
    def from_state(
        cls,
        state: dict[str, Tensor],
        groups: Sequence[Sequence[Tensor]],  # of each backbone three [N,C_l,H_l,W_l]
    ) -> PartCounts:
        """The inverse of :meth:`state`, for features like those of ``groups``.

        Raises:
            InputError: the state is of other features.
        """
        prototypes, bins = [], 0
        for number, levels in enumerate(groups):
            centres, width = state[f"prototypes{number}"], sum(level.shape[1] for level in levels[1:])
            if centres.dim() != 2 or centres.shape[1] != width:
                got = list(centres.shape)
                raise InputError(f"template: counts.prototypes{number} must be [K,{width}], got {got}")
            prototypes.append(centres)
            bins += len(centres) * prod(min(_AREAS, edge) for edge in levels[1].shape[2:])
        for name, shape in (("mean", (bins,)), ("whitening", (bins, bins)), ("typical", ())):
            if state[name].shape != shape:
                got = list(state[name].shape)
                raise InputError(f"template: counts.{name} must be {list(shape)}, got {got}")
        return cls(prototypes, state["mean"], state["whitening"], state["typical"])


def _prototypes(
    levels: Sequence[Tensor],  # three [N,C_l,H_l,W_l]
    seed: int,
) -> Tensor:  # fp32 [K,D], of unit length
    patches = drawn_patches(levels, _PATCHES, generator(seed, _STREAM, 0))[0].float().cpu()
    centres, _ = kmeans2(patches.numpy(), min(_PROTOTYPES, len(patches)), iter=12, minit="points", seed=seed)
    return F.normalize(torch.from_numpy(centres), dim=1).to(levels[0].device)


def _histograms(
    groups: Sequence[Sequence[Tensor]],  # of each backbone three [B,C_l,H_l,W_l]
    prototypes: Sequence[Tensor],  # of each backbone [K,D]
) -> Tensor:  # fp32 [B,b]
    found = []
    for levels, centres in zip(groups, prototypes, strict=True):
        similarity = F.conv2d(patch_vectors(levels), centres[:, :, None, None])
        shares = (similarity / _TEMPERATURE).softmax(1)
        down, across = (_averaging(edge).to(shares.device) for edge in shares.shape[2:])
        found.append((down.T @ shares @ across).flatten(1).sqrt())
    return torch.cat(found, 1)


def _averaging(edge: int) -> Tensor:  # fp32 [edge,areas]
    """Matrix whose product averages adjacent cells: adaptive pooling, which graphs take at any size."""
    return F.adaptive_avg_pool1d(torch.eye(edge)[None], min(_AREAS, edge))[0]


def _gaussian(
    histograms: Tensor,  # [N,b]
) -> tuple[Tensor, Tensor]:  # fp32 [b], fp32 [b,b]
    """Mean, and the matrix that makes their spread the same in every direction."""
    mean = histograms.mean(0)
    centred = (histograms - mean).double()
    covariance = centred.T @ centred / len(centred)
    even = covariance.diagonal().mean().clamp_min(1e-12) * torch.eye(len(covariance)).to(covariance)
    factor = torch.linalg.cholesky((1 - _SHRINKAGE) * covariance + _SHRINKAGE * even)
    identity = torch.eye(len(factor)).to(factor)
    return mean, torch.linalg.solve_triangular(factor, identity, upper=False).T.float().contiguous()


def _distances(
    histograms: Tensor,  # [B,b]
    mean: Tensor,  # [b]
    whitening: Tensor,  # [b,b]
) -> Tensor:  # fp32 [B]
    return ((histograms - mean) @ whitening).square().sum(1).sqrt()
