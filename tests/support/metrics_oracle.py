"""What bins must hold, whatever joined them."""

from __future__ import annotations

from torch import Tensor

from thfr_ext.metrics.reference import to_order


def hold(bins: Tensor, scores: Tensor) -> bool:  # [3,n] int64, [n]
    """Whether scores can be given to bins so that each lies in its own: sorted ones to sorted ends."""
    keys = to_order(scores).sort(descending=True).values
    highs, lows = (bins[i].repeat_interleave(bins[2]).sort(descending=True).values for i in (0, 1))
    return len(highs) == len(keys) and bool((lows <= keys).all()) and bool((keys <= highs).all())
