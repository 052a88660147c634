"""DRAEM's losses: structural similarity (Wang et al., TIP 2004) and focal loss (Lin et al., ICCV 2017)."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

_WINDOW, _SIGMA = 11, 1.5
_C1, _C2 = 0.01**2, 0.03**2  # for values in [0,1]


def structural_similarity(
    first: Tensor,  # [B,C,H,W] in [0,1], edges of at least 11
    second: Tensor,  # [B,C,H,W]
) -> Tensor:  # [B,C,H-10,W-10] in [-1,1]
    """SSIM under a Gaussian window of 11 x 11 (sigma 1.5), of every location where it fits into the image."""
    channels = first.shape[1]
    steps = torch.arange(_WINDOW, device=first.device, dtype=first.dtype) - _WINDOW // 2
    weights = torch.exp(-(steps**2) / (2 * _SIGMA**2))
    weights = (weights / weights.sum()).expand(5 * channels, 1, -1)
    moments = torch.cat([first, second, first * first, second * second, first * second], dim=1)
    moments = F.conv2d(moments, weights[:, :, :, None], groups=5 * channels)
    moments = F.conv2d(moments, weights[:, :, None], groups=5 * channels)
    mean1, mean2, square1, square2, product = moments.split(channels, dim=1)
    likeness = (2 * mean1 * mean2 + _C1) / (mean1**2 + mean2**2 + _C1)
    variances = (square1 - mean1**2) + (square2 - mean2**2)
    return likeness * (2 * (product - mean1 * mean2) + _C2) / (variances + _C2)


def focal_loss(
    logits: Tensor,  # [B,2,H,W]
    labels: Tensor,  # bool [B,H,W]
    gamma: float = 2.0,
) -> Tensor:  # []
    """Mean over pixels of -(1 - p)^gamma log p, p being the probability given to the right class."""
    logs = F.log_softmax(logits, dim=1).gather(1, labels[:, None].long())
    return -((1 - logs.exp()) ** gamma * logs).mean()
