"""Arrangement: the difference to good images at the same place, without forgiving a defect."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

import thfr_ext


def template_difference(
    features: Tensor,  # [B,C,H,W]
    templates: Tensor,  # [B,K,C,H,W]
    reach: int,
    consensus: int,
) -> Tensor:  # fp32 [B,H,W]
    """1 - cosine similarity of each location to templates: the mean of a strict and of a lenient answer.

    Strict: the least difference to a template at the very place. Lenient: the place may lie ``reach`` cells
    away, but template and direction are those of the least mean difference over the square of ``consensus``
    cells in each direction: what is around a defect decides, not the defect, so the reference that the
    templates compose changes over whole areas only. ``reach`` 0: the strict answer alone.
    """
    strict = torch.stack([thfr_ext.cosine_distance(features, of) for of in templates.unbind(1)], 1)
    least = strict.amin(1)
    if reach == 0:
        return least
    moved = [
        thfr_ext.cosine_distance(features, place)
        for template in templates.unbind(1)
        for place in _places(template, reach)
    ]
    costs = torch.stack(moved, 1)  # [B,K*moves,H,W]
    around = F.avg_pool2d(costs, 2 * consensus + 1, 1, consensus, count_include_pad=False)
    lenient = costs.gather(1, around.argmin(1, keepdim=True))[:, 0]
    return (least + lenient) / 2


def _places(
    template: Tensor,  # [B,C,H,W]
    reach: int,
) -> list[Tensor]:  # (2 * reach + 1)**2 times [B,C,H,W]
    """The template moved by up to ``reach`` cells each way; beyond its edge the edge goes on."""
    height, width = template.shape[2:]
    padded = F.pad(template, (reach,) * 4, mode="replicate")
    steps = range(2 * reach + 1)
    return [padded[:, :, top : top + height, left : left + width] for top in steps for left in steps]
