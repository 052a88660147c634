"""From distances at the locations of a feature level to a map at input size."""

from __future__ import annotations

from functools import lru_cache

import torch
from scipy.ndimage import gaussian_filter1d
from torch import Tensor
from torch.nn import functional as F

SIGMA = 4.0


def smooth_map(
    distances: Tensor,  # [B,h,w]
    size: int,
    sigma: float = SIGMA,
) -> Tensor:  # fp32 [B,size,size]
    """Bilinear up-sampling, then a Gaussian blur of ``sigma`` pixels (0: none): what
    :func:`thfr_ext.anomaly_map` does with its cosine distances, for distances of any other kind. Both steps
    are linear and separable, so they are one matrix for the rows and one for the columns.
    """
    rows, columns = (_matrix(edge, size, sigma).to(distances.device) for edge in distances.shape[1:])
    return rows @ distances.float() @ columns.T


@lru_cache(maxsize=64)
def _matrix(source: int, size: int, sigma: float) -> Tensor:  # fp32 [size,source]
    unit = torch.eye(source, dtype=torch.float64)[None]
    sampled = F.interpolate(unit, size=size, mode="linear", align_corners=False)[0].T.numpy()
    blurred = gaussian_filter1d(sampled, sigma, axis=0, mode="reflect", truncate=4.0) if sigma else sampled
    return torch.from_numpy(blurred).float()
