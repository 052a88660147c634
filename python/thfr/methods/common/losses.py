"""The loss of networks that restore features."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from torch import Tensor

import thfr_ext

LossKind = Literal["location", "flattened"]


def restoration_losses(
    wanted: Sequence[Tensor],  # [B,C_l,H_l,W_l]
    restored: Sequence[Tensor],  # in the same shapes
    kind: LossKind,
) -> dict[str, Tensor]:  # "level1", "level2", ... -> []
    """The loss of each level, location: mean cosine distance of its locations; flattened: cosine distance of
    whole levels, as one vector an image.
    """
    if kind == "flattened":
        wanted, restored = (
            [level.flatten(1)[:, :, None, None] for level in one] for one in (wanted, restored)
        )
    pairs = enumerate(zip(wanted, restored, strict=True), 1)
    return {f"level{number}": thfr_ext.cosine_distance(*pair).mean() for number, pair in pairs}
