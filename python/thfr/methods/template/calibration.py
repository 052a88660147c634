"""How much each part of an answer is worth, told by good images alone.

A part is a map of differences: of a level to the templates, or of patches to the memory. Two numbers say what
it is worth: the peak that a good image gives which it does not hold, and the difference of places that have
nothing to do with each other. A peak near the latter says that good images explain one another no better than
chance would (a texture without a place, a product at any angle): such a part says nothing.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

_LEAST = 0.02  # trust in a part that says nothing, so that something is left where none says anything
_STEADY = 0.05  # variation below which a few images cannot tell
_BATCH = 32


def say_of_parts(
    peaks: Tensor,  # fp32 [P], of good images
    unrelated: Tensor,  # fp32 [P]
) -> Tensor:  # fp32 [P], 1 together
    """How much each part has to say: the share of the difference of unrelated places that lies above the peak
    of a good image. Its map is divided by that peak, so that all parts cry wolf alike, and the sum of a good
    image peaks near 1.
    """
    trust = (1 - peaks / unrelated.clamp_min(1e-6)).clamp_min(_LEAST)
    return trust / trust.sum()


def steadiness(
    peaks: Tensor,  # fp32 [N], of good images
) -> Tensor:  # fp32 []
    """What a backbone's map is multiplied by in a sum of several: 1 over the median peak, and over the square
    of the peaks' variation (standard deviation over median), as measurements are weighed.
    """
    middle = peaks.median().clamp_min(1e-6)
    return 1 / middle / (peaks.std(correction=0) / middle).clamp_min(_STEADY) ** 2


def unrelated_difference(
    features: Tensor,  # [N,C,H,W]
) -> float:
    """Mean of 1 - cosine similarity over all pairs of locations, of whatever images."""
    total = torch.zeros(features.shape[1], dtype=torch.float64, device=features.device)
    for some in features.split(_BATCH):
        total += F.normalize(some.float(), dim=1).sum((0, 2, 3), dtype=torch.float64)
    locations = features.numel() // features.shape[1]
    return float(1 - (total / locations).square().sum())


def weighted(
    parts: Sequence[Tensor],  # [B,h_p,w_p]
    peaks: Tensor,  # [P]
    say: Tensor,  # [P]
) -> list[Tensor]:
    """Each part in units of its peak, times what it has to say."""
    return [part * weight for part, weight in zip(parts, say / peaks, strict=True)]
