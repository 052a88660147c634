"""Arguments for the self-check, on the CPU: every operator, dtypes, edges of tiles, NaN, ties; one large.

Small cases are compared with the fp64 reference. Large ones, which the reference could not end in time, are
compared with the PyTorch operations, and timed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

FLOATS = (torch.float32, torch.float64, torch.float16, torch.bfloat16)


@dataclass
class Case:
    name: str
    arguments: tuple[Any, ...]
    #: arithmetic is exact, so that ties are ties
    exact: bool = False


def _rand(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed)).to(dtype)


def _integers(*shape: int, most: int, seed: int = 0) -> Tensor:
    return torch.randint(0, most, shape, generator=torch.Generator().manual_seed(seed)).float()


def _pairs(sizes: Sequence[tuple[int, ...]]) -> Iterator[tuple[str, Tensor, Tensor]]:
    for dtype in FLOATS:
        for i, size in enumerate(sizes):
            x, y = (_rand(*size, seed=2 * i + j, dtype=dtype) - 0.5 for j in (0, 1))
            yield f"{str(dtype).removeprefix('torch.')} {list(size)}", x, y
    x, y = _rand(*sizes[0], seed=1), _rand(*sizes[0], seed=2)
    last = torch.channels_last
    yield "channels last", x.contiguous(memory_format=last), y.contiguous(memory_format=last)
    yield "magnitudes", x * 1e30, y * 1e-30
    zero = x.clone()
    zero[..., ::2] = 0
    yield "zero vectors", zero, y
    bad = x.clone()
    bad[0, 0, 0, 0], bad[-1, -1, -1, -1] = torch.nan, torch.inf
    yield "NaN and infinity", bad, y


_SIZES = [(2, 24, 13, 9), (1, 1, 1, 1), (3, 65, 7, 33), (1, 128, 16, 16), (2, 520, 2, 4)]


def _cosine_distance() -> Iterator[Case]:
    for name, x, y in _pairs(_SIZES):
        yield Case(name, (x, y, 1e-8))


def _backward() -> Iterator[Case]:
    for name, x, y in _pairs(_SIZES):
        if name.startswith("NaN"):
            continue
        dtype = torch.float64 if x.dtype == torch.float64 else torch.float32
        grad = _rand(x.shape[0], *x.shape[2:], seed=9, dtype=dtype) + 0.1
        # Gradients of vectors of 1e-30 are beyond fp32.
        if name != "magnitudes":
            yield Case(name, (grad, x, y, 1e-8, True, True))
            yield Case(f"{name}, one", (grad, x, y, 1e-8, False, True))


_MAPS = [
    ((33, 40), 4.0, "sum", None),
    ((17, 5), 0.0, "sum", [0.5, 2.0]),
    ((64, 64), 2.0, "product", [1.0, 0.5]),
]


def _anomaly_map() -> Iterator[Case]:
    for dtype in FLOATS:
        x, y = (
            [_rand(2, 24, 8, 9, seed=s, dtype=dtype), _rand(2, 48, 4, 5, seed=s + 1, dtype=dtype)]
            for s in (0, 5)
        )
        for size, sigma, combine, weights in _MAPS:
            yield Case(f"{dtype} {size} {sigma} {combine}", (x, y, list(size), sigma, combine, weights))


def _upsample_blur() -> Iterator[Case]:
    for dtype in FLOATS:
        levels = [_rand(3, 8, 9, seed=1, dtype=dtype), _rand(3, 31, 2, seed=2, dtype=dtype)]
        for size, sigma, combine, weights in _MAPS:
            yield Case(f"{dtype} {size} {sigma} {combine}", (levels, list(size), sigma, combine, weights))


def _nearest() -> Iterator[Case]:
    for metric in ("cosine", "l2", "dot"):
        for dtype in FLOATS:
            for q, n, d, k in ((1, 1, 1, 1), (5, 333, 67, 5), (40, 257, 128, 3), (9, 300, 24, 70)):
                x, y = (_rand(m, d, seed=s, dtype=dtype) - 0.5 for s, m in ((1, q), (2, n)))
                yield Case(f"{metric} {dtype} {q} {n} {d} {k}", (x, y, k, metric, None))
        x, y = _rand(20, 40, seed=3) - 0.5, _rand(90, 40, seed=4) - 0.5
        yield Case(f"{metric} half bank", (x, y.half(), 4, metric, None))
        own = torch.arange(20)
        own[::3] = -1
        yield Case(f"{metric} exclude", (x, x, 3, metric, own))
        if metric != "cosine":
            for q in (4, 30):
                ties = _integers(q, 9, most=3, seed=5), _integers(400, 9, most=3, seed=6)
                yield Case(f"{metric} ties {q}", (*ties, 7, metric, None), exact=True)
        bad = x.clone()
        bad[1, 2] = torch.nan
        yield Case(f"{metric} NaN", (bad, y, 2, metric, None))


def _coreset() -> Iterator[Case]:
    for dtype in FLOATS:
        yield Case(str(dtype), (_rand(300, 33, seed=1, dtype=dtype), 60, 3))
    yield Case("ties", (_integers(200, 5, most=3), 200, 0))


def _masks(seed: int, *shapes: tuple[int, int]) -> list[Tensor]:
    return [_rand(*shape, seed=seed + i) < 0.2 for i, shape in enumerate(shapes)]


_IMAGES = ((40, 37), (64, 64), (1, 70), (33, 2))


def _maps(dtype: torch.dtype, ties: bool) -> list[Tensor]:
    maps = [_rand(*shape, seed=20 + i) for i, shape in enumerate(_IMAGES)]
    return [((m * 9).floor() if ties else m).to(dtype) for m in maps]


def _labels() -> Iterator[Case]:
    for i, shape in enumerate(((2, 40, 37), (1, 1, 1), (3, 1, 300), (1, 130, 129))):
        yield Case(f"{list(shape)}", (_rand(*shape, seed=i) < 0.45,))
    spiral = torch.zeros(1, 33, 33, dtype=torch.bool)
    spiral[:, ::2] = True
    spiral[:, 1::4, -1] = spiral[:, 3::4, 0] = True
    yield Case("one winding region", (spiral,))


def _with_maps(make: Callable[[list[Tensor]], tuple[Any, ...]]) -> Iterator[Case]:
    for dtype in FLOATS:
        for ties in (False, True):
            yield Case(f"{dtype}{' ties' if ties else ''}", make(_maps(dtype, ties)))
    bad = _maps(torch.float32, False)
    bad[1][3, 4] = torch.nan
    yield Case("NaN", make(bad))


def _regions() -> list[Tensor]:
    return [
        torch.stack(_masks(30 + 7 * i, *[shape] * n))
        for i, (shape, n) in enumerate(zip(_IMAGES, (2, 3, 1, 1), strict=True))
    ]


_SATURATIONS = torch.tensor([9, 1, 40, 10**6, 3, 5, 2])
_LIMITS = [0.01, 0.05, 0.3, 1.0]


def _spro_area() -> Iterator[Case]:
    for dtype in (torch.float32, torch.float64):
        for ties in (False, True):
            negatives, scores = _rand(3000, seed=1), _rand(90, seed=2) + 0.3
            if ties:
                negatives, scores = (negatives * 9).floor(), (scores * 9).floor()
            offsets, most = torch.tensor([0, 1, 40, 90]), torch.tensor([1, 7, 300])
            yield Case(f"{dtype} {ties}", (negatives.to(dtype), scores.to(dtype), offsets, most, _LIMITS))


def _auroc() -> Iterator[Case]:
    for dtype in FLOATS:
        for n in (2, 257, 5000):
            labels = torch.arange(n) % 3 == 0
            yield Case(f"{dtype} {n}", (_rand(n, seed=n, dtype=dtype), labels))
    yield Case("ties", (_integers(3000, most=5), torch.arange(3000) % 2 == 0))
    bad = _rand(50)
    bad[7] = torch.nan
    yield Case("NaN", (bad, torch.arange(50) % 2 == 0))


#: operator -> its small cases
SMALL: dict[str, Callable[[], Iterator[Case]]] = {
    "cosine_distance": _cosine_distance,
    "cosine_distance_backward": _backward,
    "anomaly_map": _anomaly_map,
    "upsample_blur": _upsample_blur,
    "nearest_templates": _nearest,
    "greedy_coreset": _coreset,
    "label_regions": _labels,
    "component_samples": lambda: _with_maps(lambda m: (m, _masks(50, *_IMAGES))),
    "region_samples": lambda: _with_maps(lambda m: (m, _regions())),
    "au_pro": lambda: _with_maps(lambda m: (m, _masks(50, *_IMAGES), 0.3)),
    "pro_curve": lambda: _with_maps(lambda m: (m, _masks(50, *_IMAGES))),
    "au_spro": lambda: _with_maps(lambda m: (m, _regions(), _SATURATIONS, _LIMITS)),
    "spro_curve": lambda: _with_maps(lambda m: (m, _regions(), _SATURATIONS)),
    "spro_area": _spro_area,
    "auroc": _auroc,
}


def large(name: str, scale: float) -> tuple[Any, ...]:
    """Arguments of about the size that the operator is used with; ``scale`` < 1 for smaller ones."""

    def side(n: int) -> int:
        return max(8, int(n * scale))

    def levels(seed: int) -> list[Tensor]:
        shapes = ((256, side(64)), (512, side(32)), (1024, side(16)))
        return [_rand(8, c, s, s, seed=seed + i) for i, (c, s) in enumerate(shapes)]

    h = side(256)
    maps = [_rand(h, h, seed=i) for i in range(16)]
    blobs = []
    for i in range(16):
        mask = torch.zeros(h, h, dtype=torch.bool)
        mask[h // 4 : h // 2, h // 8 : h // 3] = mask[-h // 8 :, -(h // 6 + i) :] = True
        blobs.append(mask)
    stacks = [torch.stack([m, m.flip(0)]) for m in blobs]
    x, y = levels(1)[0], levels(2)[0]
    most = torch.full((32,), h)
    given: dict[str, tuple[Any, ...]] = {
        "cosine_distance": (x, y, 1e-8),
        "cosine_distance_backward": (_rand(8, *x.shape[2:]), x, y, 1e-8, True, True),
        "anomaly_map": (levels(1), levels(5), [h, h], 4.0, "sum", None),
        "upsample_blur": ([t[:, 0] for t in levels(1)], [h, h], 4.0, "sum", None),
        "nearest_templates": (
            _rand(side(784), 384) - 0.5,
            _rand(side(16000), 384, seed=1) - 0.5,
            3,
            "l2",
            None,
        ),
        "greedy_coreset": (_rand(side(16000), 128, seed=1), side(160), 0),
        "label_regions": (torch.stack(blobs),),
        "component_samples": (maps, blobs),
        "region_samples": (maps, stacks),
        "au_pro": (maps, blobs, 0.3),
        "pro_curve": (maps, blobs),
        "au_spro": (maps, stacks, most, _LIMITS),
        "spro_curve": (maps, stacks, most),
        "spro_area": (
            _rand(side(10**6)),
            _rand(side(10**5)),
            torch.tensor([0, 7, side(10**5)]),
            most[:2],
            _LIMITS,
        ),
        "auroc": (_rand(side(10**6)), _rand(side(10**6), seed=1) < 0.1),
    }
    return given[name]
