"""Arguments that fit, by function."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from support.fuzz_values import FLOATS, tensor
from torch import Tensor

from thfr_ext.metrics.bins import merge_bins


def shape(rng: random.Random, dims: int) -> list[int]:
    return [rng.randrange(0 if rng.random() < 0.2 else 1, 6) for _ in range(dims)]


def pair(rng: random.Random, size: Sequence[int] | None = None) -> list[Tensor]:
    size, dtype = size or shape(rng, 4), rng.choice(FLOATS)
    return [tensor(rng, size, dtype), tensor(rng, size, dtype)]


def distance_arguments(rng: random.Random) -> list[Any]:
    return [*pair(rng), rng.choice([0.0, 1e-8, 1.0])]


def backward_arguments(rng: random.Random) -> list[Any]:
    x, y, eps = distance_arguments(rng)
    b, _, h, w = x.shape
    grad = tensor(rng, (b, h, w), torch.float64 if x.dtype == torch.float64 else torch.float32)
    return [grad, x, y, eps, rng.random() < 0.7, rng.random() < 0.7]


def map_arguments(rng: random.Random) -> list[Any]:
    batch, levels = rng.randrange(4), rng.randrange(1, 4)
    pairs = [
        pair(rng, [batch, rng.randrange(6), rng.randrange(1, 6), rng.randrange(1, 6)]) for _ in range(levels)
    ]
    weights = None if rng.random() < 0.5 else [rng.choice([0.0, 1.0, 0.5]) for _ in range(levels)]
    size = [rng.randrange(1, 9), rng.randrange(1, 40)]
    return [
        [p[0] for p in pairs],
        [p[1] for p in pairs],
        size,
        rng.choice([0.0, 0.7, 4.0]),
        rng.choice(["sum", "product"]),
        weights,
    ]


def blur_arguments(rng: random.Random) -> list[Any]:
    batch, levels = rng.randrange(4), rng.randrange(1, 4)
    distances = [
        tensor(rng, [batch, rng.randrange(1, 6), rng.randrange(1, 6)], rng.choice(FLOATS))
        for _ in range(levels)
    ]
    return [distances, *map_arguments(rng)[2:5], None if rng.random() < 0.5 else [0.5] * levels]


def merge_arguments(rng: random.Random) -> list[Any]:
    size = [rng.randrange(1, 4), rng.randrange(4), rng.randrange(1, 5)]
    indices = torch.tensor([rng.randrange(-1, 50) for _ in range(math.prod(size))], dtype=torch.int64)
    k = rng.randrange(1, size[0] * size[2] + 1)
    metric = rng.choice(["cosine", "l2", "dot"])
    return [tensor(rng, size, rng.choice(FLOATS)).nan_to_num(), indices.reshape(size), k, metric]


def nearest_arguments(rng: random.Random) -> list[Any]:
    q, n, d = rng.randrange(13), rng.randrange(1, 6), rng.randrange(1, 6)
    dtype = rng.choice(FLOATS)
    bank = rng.choice([dtype, torch.float16, torch.bfloat16]) if dtype == torch.float32 else dtype
    exclude = (
        None
        if rng.random() < 0.5
        else torch.tensor([rng.randrange(-1, n) for _ in range(q)], dtype=torch.int64)
    )
    return [
        tensor(rng, (q, d), dtype),
        tensor(rng, (n, d), bank),
        rng.randrange(1, n + 1),
        rng.choice(["cosine", "l2", "dot"]),
        exclude,
    ]


def coreset_arguments(rng: random.Random) -> list[Any]:
    n = rng.randrange(1, 6)
    return [
        tensor(rng, (n, rng.randrange(1, 6)), rng.choice(FLOATS)),
        rng.randrange(1, n + 1),
        rng.choice([0, 5, 2**63 - 1]),
    ]


def image_sizes(rng: random.Random) -> list[list[int]]:
    return [[rng.randrange(1, 6), rng.randrange(1, 6)] for _ in range(rng.randrange(1, 4))]


def pro_arguments(rng: random.Random) -> list[Any]:
    sizes = image_sizes(rng)
    return [[tensor(rng, s, rng.choice(FLOATS)) for s in sizes], [tensor(rng, s, torch.bool) for s in sizes]]


def limit(rng: random.Random) -> float:
    return rng.choice([1e-300, 0.01, 0.3, 1.0])


def spro_arguments(rng: random.Random) -> list[Any]:
    maps, regions, saturations = [], [], []
    for size in image_sizes(rng):
        count = rng.randrange(3)
        maps.append(tensor(rng, size, rng.choice(FLOATS)))
        regions.append(tensor(rng, [count, *size], torch.bool))
        saturations.append([rng.choice([1, 3, 2**40]) for _ in range(count)])
    return [maps, regions, saturations]


def joined(arguments: list[Any]) -> list[Any]:
    """As the operators take them: the saturations of all images in one tensor."""
    maps, regions, saturations = arguments
    return [maps, regions, torch.tensor([s for image in saturations for s in image], dtype=torch.int64)]


def limits(rng: random.Random) -> list[float]:
    return [limit(rng) for _ in range(rng.randrange(1, 4))]


def area_arguments(rng: random.Random) -> list[Any]:
    dtype = rng.choice([torch.float32, torch.float64])
    areas = [rng.randrange(1, 5) for _ in range(rng.randrange(1, 4))]
    offsets = torch.tensor([0, *np.cumsum(areas)])
    saturations = torch.tensor([rng.choice([1, 2, 9]) for _ in areas])
    return [
        tensor(rng, [rng.randrange(1, 9)], dtype),
        tensor(rng, [sum(areas)], dtype),
        offsets,
        saturations,
        limits(rng),
    ]


def bins(rng: random.Random, most: int = 16) -> Tensor:
    scores = torch.rand(rng.randrange(60), generator=torch.Generator().manual_seed(rng.getrandbits(31)))
    return merge_bins([], scores, most, 0.0, rng.random() < 0.5)[0]


def bin_arguments(rng: random.Random) -> list[Any]:
    sketches = [bins(rng) for _ in range(rng.randrange(3))]
    scores = tensor(rng, [rng.randrange(60)], rng.choice([torch.float32, torch.float64]))
    return [sketches, scores, rng.choice([16, 40, 2**31]), rng.choice([0.0, 0.1]), rng.random() < 0.5]


def auroc_arguments(rng: random.Random) -> list[Any]:
    size = shape(rng, rng.randrange(4))
    return [tensor(rng, size, rng.choice(FLOATS)), tensor(rng, size, torch.bool)]


def mask_arguments(rng: random.Random) -> list[Any]:
    return [tensor(rng, shape(rng, 3), torch.bool)]
