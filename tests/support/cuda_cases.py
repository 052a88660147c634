"""What runs on the GPU in several tests: functions of tensors, with arguments of a few sizes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

import thfr_ext

Levels = list[Tensor]
WIDE_RESNET50 = ((256, 64), (512, 32), (1024, 16))  # channels and side of each level at 256 x 256


def levels(batch: int, dtype: torch.dtype, shapes: tuple[tuple[int, int], ...], seed: int) -> Levels:
    generator = torch.Generator().manual_seed(seed)
    return [torch.rand(batch, c, s, s, generator=generator).to(dtype) for c, s in shapes]


def distance(x: Tensor, y: Tensor) -> Tensor:
    return thfr_ext.cosine_distance(x, y)


def anomaly(x: Tensor, y: Tensor) -> Tensor:
    return thfr_ext.anomaly_map([x], [y], (32, 40), 2.0)[0]


def product(x: Tensor, y: Tensor) -> Tensor:
    return thfr_ext.anomaly_map([x, x[:, :3]], [y, y[:, :3]], (32, 40), 2.0, "product")[1]


def few(x: Tensor, y: Tensor) -> Tensor:
    return thfr_ext.nearest_templates(x.flatten(1)[:4], y.flatten(1), 2, "l2")[0]


def many(x: Tensor, y: Tensor) -> Tensor:
    return thfr_ext.nearest_templates(x.flatten(2).flatten(0, 1), y.flatten(2).flatten(0, 1), 3)[0]


def more(x: Tensor, y: Tensor) -> Tensor:
    """More neighbours than a list in shared memory holds."""
    queries, bank = (t.flatten(2).flatten(0, 1) for t in (x[:1], y))
    return thfr_ext.nearest_templates(queries, bank, 70, "dot")[1]


def coreset(x: Tensor, y: Tensor) -> Tensor:
    return thfr_ext.greedy_coreset(torch.cat([x, y]).flatten(2).flatten(0, 1), 20)


#: functions of two [B,C,H,W] tensors of one dtype whose result has a shape known beforehand
SMALL: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    f.__name__: f for f in (distance, anomaly, product, few, many, more, coreset)
}


def pair(dtype: torch.dtype = torch.float32, seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    made: Any = torch.rand(2, 8, 24, 13, 9, generator=generator).to(dtype)
    return made[0], made[1]
