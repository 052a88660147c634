"""Which pixels of prepared images count, and maps at the images' own size."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from thfr.io import ReadOptions, Region
from thfr.io.framing import counted


def native_map(
    single: Tensor,  # fp32 [H,W]
    size: tuple[int, int],
) -> np.ndarray:  # float32 [H,W]
    """An anomaly map at its image's own size, (height, width): bilinear."""
    native = F.interpolate(single[None, None], size, mode="bilinear", align_corners=False)
    return native[0, 0].cpu().numpy()


class Counting:
    """Masks of what counts; that of images of unknown size is kept, for a CUDA graph cannot copy it."""

    def __init__(self) -> None:
        self._kept: tuple[Region | None, Tensor | None] | None = None

    def inside(
        self,
        size: tuple[int, int],
        options: ReadOptions,
        sizes: Sequence[tuple[int, int]] | None,
        device: torch.device,
    ) -> Tensor | None:  # bool [1 or B,H,W]
        """Which pixels of images at input size count; None: all. ``sizes``: (height, width) of each before it
        was prepared; None: unknown.
        """
        if sizes is None and self._kept is not None and self._kept[0] is options.region:
            return self._kept[1]
        natives: Sequence[tuple[int, int] | None] = sizes or [None]
        masks = [counted(one, size, options.fit, options.region) for one in natives]
        inside = None
        if any(mask is not None for mask in masks):
            full = np.ones(size, dtype=bool)
            inside = torch.from_numpy(np.stack([full if mask is None else mask for mask in masks])).to(device)
        if sizes is None:
            self._kept = (options.region, inside)
        return inside
