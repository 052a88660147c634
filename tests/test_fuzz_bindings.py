"""Random arguments, mostly almost right, through every public function, operator and native function.

Allowed: a result of the right shape and dtype, finite where the input is; or one ValueError or TypeError that
begins with the operator's name. torch's own words are allowed where torch refuses before the operator is
reached.
"""

from __future__ import annotations

import ctypes
import math
import random
import re
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import thfr_ext
from thfr_ext import _C, _library

pytestmark = pytest.mark.filterwarnings("ignore:Casting complex values to real")

CASES = 200  # a function
FLOATS = (torch.float32, torch.float64, torch.float16, torch.bfloat16)
DTYPES = (*FLOATS, torch.bool, torch.int64, torch.int32, torch.uint8, torch.complex64)
OPERATORS = torch.ops.thfr_ext


# Tensors


def values(rng: random.Random, shape: Sequence[int], dtype: torch.dtype) -> Tensor:
    """Random numbers, half of the time small integers, sometimes with a value that is not finite."""
    made = torch.rand(shape, generator=torch.Generator().manual_seed(rng.getrandbits(31)))
    made = made if rng.random() < 0.5 else (4 * made).round()
    if made.numel() and dtype in FLOATS and rng.random() < 0.05:
        made.view(-1)[rng.randrange(made.numel())] = rng.choice([math.nan, math.inf, -math.inf])
    return made > 0.5 if dtype == torch.bool else made.to(dtype)


def strided(rng: random.Random, tensor: Tensor) -> Tensor:
    """The same values in another layout, or some of them in a layout that overlaps itself."""
    kind, dims = rng.randrange(6), tensor.dim()
    if dims == 0 or kind == 0:
        return tensor
    if kind == 1:
        order = rng.sample(range(dims), dims)
        return tensor.permute(order).contiguous().permute([order.index(i) for i in range(dims)])
    if kind == 2:
        wide = torch.zeros([2 * n + 1 for n in tensor.shape], dtype=tensor.dtype)
        window = wide[tuple(slice(1, 2 * n + 1, 2) for n in tensor.shape)]
        return window.copy_(tensor)
    if kind == 3 and tensor.shape[0]:
        return tensor[:1].expand(tensor.shape)
    if kind == 4 and tensor.numel():
        strides = [rng.randrange(2) for _ in tensor.shape]
        room = sum(s * (n - 1) for s, n in zip(strides, tensor.shape, strict=True)) + 1
        return tensor.reshape(-1)[:room].clone().as_strided(tensor.shape, strides)
    return tensor


def tensor(rng: random.Random, shape: Sequence[int], dtype: torch.dtype = torch.float32) -> Tensor:
    return strided(rng, values(rng, shape, dtype))


def any_tensor(rng: random.Random) -> Any:
    """Any dtype, 0 to 5 dimensions of 0 to 5, any layout, sometimes not on the CPU or not torch's."""
    made = tensor(rng, [rng.randrange(6) for _ in range(rng.randrange(6))], rng.choice(DTYPES))
    return altered(rng, made)


def altered(rng: random.Random, made: Tensor) -> Any:
    """Of another dtype, device, shape, layout or library."""
    kind = rng.randrange(12)
    if made.device.type == "meta" or made.layout != torch.strided:
        return made
    if kind == 0:
        return made.to("meta")
    if kind == 1 and made.dim():
        return made.unbind(0)[0] if made.shape[0] else made.unsqueeze(0)
    if kind == 2:
        return made.unsqueeze(0)
    if kind == 3 and made.dim():
        return made.narrow(rng.randrange(made.dim()), 0, 0)
    if kind == 4 and made.dim():
        return torch.cat([made, made], rng.randrange(made.dim()))
    if kind in (5, 6):
        return made.to(rng.choice(DTYPES))
    if kind == 7 and made.dtype in FLOATS:
        return made.detach().clone().requires_grad_()
    if kind == 8:
        return made.to_sparse()
    if kind in (9, 10) and made.dtype != torch.bfloat16:
        return foreign(rng, made.detach().numpy())
    return made.transpose(0, -1) if made.dim() else made


def foreign(rng: random.Random, array: np.ndarray) -> np.ndarray:
    kind = rng.randrange(5)
    if kind == 0 and array.ndim:
        return array[tuple(slice(None, None, -1) for _ in array.shape)]
    if kind == 1:
        return array.astype(array.dtype.newbyteorder())
    if kind == 2:
        return array.astype(rng.choice(["O", "S3", "U3", "f2", "longdouble", "u8", "i1"]))
    if kind == 3:
        array = array.copy()
        array.flags.writeable = False
    return array


JUNK: tuple[Any, ...] = (
    None, True, 0, 1, -1, 3, 2**31, 2**63, 2**70, -(2**64), 0.3, -0.0, 1e-320, 1e300, math.nan, math.inf,
    -math.inf, 1j, "", "sum", "cosine", b"x", (), [], {}, {1}, [[]], [None], [1, 2], (4, 5), [0.5, math.nan],
    object(), np.float32(2), np.int64(2), np.str_("l2"), np.zeros(3)[1:1], range(2), slice(1), int,
    torch.float32, torch.device("cpu"),
)  # fmt: skip


def changed(rng: random.Random, value: Any) -> Any:
    """Something else in place of an argument, mostly of its kind."""
    if rng.random() < 0.2:
        return rng.choice(JUNK)
    if isinstance(value, Tensor):
        return altered(rng, value) if rng.random() < 0.8 else any_tensor(rng)
    if isinstance(value, list) and value and rng.random() < 0.9:
        copy, i = list(value), rng.randrange(len(value))
        kind = rng.randrange(5)
        if kind == 0:
            del copy[i]
        elif kind == 1:
            copy.append(copy[i])
        elif kind == 2:
            return tuple(copy)
        else:
            copy[i] = changed(rng, copy[i])
        return copy
    if isinstance(value, (int, float)):
        return rng.choice(
            [value + 1, -value, value * 10**6, 0, float(value), np.float64(value), math.nan, 2**63 - 1]
        )
    return rng.choice(JUNK)


# Arguments that fit, by function


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


def packed(rng: random.Random) -> list[Tensor]:
    dtype = rng.choice([torch.float32, torch.float64])
    made = [tensor(rng, [rng.randrange(40)], dtype).nan_to_num() for _ in range(rng.randrange(1, 4))]
    return [OPERATORS.pack_scores(scores) for scores in made]


def cells(rng: random.Random, most: int = 16) -> Tensor:
    scores = torch.rand(rng.randrange(60), generator=torch.Generator().manual_seed(rng.getrandbits(31)))
    return OPERATORS.merge_cells([], scores, most, 0.0, rng.random() < 0.5)[0]


def packed_area_arguments(rng: random.Random) -> list[Any]:
    return [packed(rng), *area_arguments(rng)[1:]]


def cell_arguments(rng: random.Random) -> list[Any]:
    sketches = [cells(rng) for _ in range(rng.randrange(3))]
    scores = tensor(rng, [rng.randrange(60)], rng.choice([torch.float32, torch.float64]))
    return [sketches, scores, rng.choice([16, 40, 2**31]), rng.choice([0.0, 0.1]), rng.random() < 0.5]


def auroc_arguments(rng: random.Random) -> list[Any]:
    size = shape(rng, rng.randrange(4))
    return [tensor(rng, size, rng.choice(FLOATS)), tensor(rng, size, torch.bool)]


def mask_arguments(rng: random.Random) -> list[Any]:
    return [tensor(rng, shape(rng, 3), torch.bool)]


# What a result must be


def numbers(result: Any) -> list[Any]:
    """All arrays and numbers in a result."""
    if isinstance(result, dict):
        return [leaf for value in result.values() for leaf in numbers(value)]
    if isinstance(result, (tuple, list)):
        return [leaf for value in result for leaf in numbers(value)]
    return [result]


def as_array(value: Any) -> np.ndarray:
    return (
        value.detach().double().numpy() if isinstance(value, Tensor) else np.asarray(value, dtype=np.float64)
    )


def finite(value: Any) -> bool:
    """Whether the floats in an argument are finite and of moderate size."""
    if isinstance(value, (list, tuple)):
        return all(finite(v) for v in value)
    if isinstance(value, (Tensor, np.ndarray)):
        array = as_array(value.detach() if isinstance(value, Tensor) else value)
        return bool(np.isfinite(array).all())
    return True


def on_meta(value: Any) -> bool:
    if isinstance(value, (list, tuple)):
        return any(on_meta(v) for v in value)
    return isinstance(value, Tensor) and value.device.type == "meta"


def shares(result: Any, arguments: list[Any]) -> None:  # areas and overlaps: 0 to 1, whatever the scores
    for leaf in numbers(result):
        assert ((as_array(leaf) >= 0) & (as_array(leaf) <= 1)).all()


def curve(result: Any, arguments: list[Any]) -> None:
    fpr, overlap, thresholds = (as_array(column) for column in result)
    assert fpr.shape == overlap.shape == thresholds.shape
    assert fpr[0] == overlap[0] == 0
    assert fpr[-1] == 1
    assert (np.diff(fpr) >= 0).all()
    assert (np.diff(overlap) >= 0).all()
    assert overlap[-1] <= 1
    assert (thresholds[1:] <= thresholds[:-1]).all()


def distance(result: Any, arguments: list[Any]) -> None:
    x = arguments[0]
    assert tuple(result.shape) == (x.shape[0], *x.shape[2:])
    if finite(arguments):
        assert ((as_array(result) >= 0) & (as_array(result) <= 2)).all()


def gradients(result: Any, arguments: list[Any]) -> None:
    grad, x, y, _, *needed = arguments
    for made, like, need in zip(result, (x, y), needed, strict=True):
        assert made.shape == like.shape if need else made.numel() == 0
        assert made.dtype == like.dtype
        # fp16 may overflow where the vectors are tiny
        assert not finite([grad, x, y]) or x.dtype == torch.float16 or bool(made.isfinite().all())


def anomaly(result: Any, arguments: list[Any]) -> None:
    features, _, size = arguments[:3]
    assert tuple(result[0].shape) == (features[0].shape[0], *size)
    assert tuple(result[1].shape) == (features[0].shape[0],)
    if finite(arguments[:2]):
        assert np.isfinite(as_array(result[0])).all()
    assert np.array_equal(as_array(result[0]).max((1, 2)), as_array(result[1]), equal_nan=True)


def nearest(result: Any, arguments: list[Any]) -> None:
    queries, bank, k = arguments[:3]
    assert tuple(result[0].shape) == tuple(result[1].shape) == (queries.shape[0], int(k))
    assert np.isfinite(as_array(result[0])).all()
    indices = as_array(result[1])
    assert ((indices >= 0) & (indices < bank.shape[0])).all()
    assert all(len(set(row)) == len(row) for row in indices.tolist())


def coreset(result: Any, arguments: list[Any]) -> None:
    chosen = as_array(result)
    assert chosen.shape == (int(arguments[1]),)
    assert len(set(chosen.tolist())) == len(chosen)
    assert ((chosen >= 0) & (chosen < arguments[0].shape[0])).all()


def labels(result: Any, arguments: list[Any]) -> None:
    marked, (found, counts) = as_array(arguments[0]), (as_array(r) for r in result)
    assert found.shape == marked.shape
    assert ((found > 0) == (marked > 0)).all()
    assert [image.max(initial=0) for image in found] == counts.tolist()


def samples(result: Any, arguments: list[Any]) -> None:
    negatives, scores, offsets = result
    pixels = sum(m.numel() for m in arguments[0])
    assert negatives.dim() == scores.dim() == offsets.dim() == 1
    assert len(negatives) <= pixels
    assert offsets[0] == 0
    assert offsets[-1] == len(scores)


def packed_scores(result: Any, arguments: list[Any]) -> None:
    assert result.dtype == torch.uint8
    assert result.dim() == 1


def joined_cells(result: Any, arguments: list[Any]) -> None:
    sketches, scores, most = arguments[:3]
    rows, share = result
    assert rows.shape[0] == 3
    assert rows.shape[1] <= most
    assert bool((rows[1] <= rows[0]).all())
    assert int(rows[2].sum()) == len(scores) + sum(int(s[2].sum()) for s in sketches)
    assert as_array(share) >= arguments[3]


def bounds(result: Any, arguments: list[Any]) -> None:
    assert tuple(result.shape) == (2, len(arguments[3]))
    assert arguments[2] <= 0 or not finite(result) or bool((result[0] <= result[1] + 1e-12).all())


# Functions and operators


Make = Callable[[random.Random], list[Any]]
Check = Callable[[Any, list[Any]], None]


def metric(make: Callable[[], Any]) -> Callable[..., Any]:
    """Both ways to feed a metric; the value, where it has one."""

    def feed(*arguments: Any) -> Any:
        made, other = make(), make()
        made.update(*arguments)
        other.merge_state(made)
        value = other.compute()
        batch = make()(*arguments)
        assert [as_array(v) for v in numbers(batch)] == [as_array(v) for v in numbers(value)]
        return value

    return feed


FUNCTIONS: dict[str, tuple[Callable[..., Any], Make, Check]] = {
    "cosine_distance": (thfr_ext.cosine_distance, distance_arguments, distance),
    "anomaly_map": (thfr_ext.anomaly_map, map_arguments, anomaly),
    "nearest_templates": (thfr_ext.nearest_templates, nearest_arguments, nearest),
    "greedy_coreset": (thfr_ext.greedy_coreset, coreset_arguments, coreset),
    "label_regions": (thfr_ext.label_regions, mask_arguments, labels),
    "au_pro": (thfr_ext.au_pro, lambda rng: [*pro_arguments(rng), limit(rng)], shares),
    "pro_curve": (thfr_ext.pro_curve, pro_arguments, curve),
    "au_spro": (thfr_ext.au_spro, lambda rng: [*spro_arguments(rng), limits(rng)], shares),
    "spro_curve": (thfr_ext.spro_curve, spro_arguments, curve),
    "auroc": (thfr_ext.auroc, auroc_arguments, shares),
    "AUPRO": (metric(thfr_ext.metrics.AUPRO), pro_arguments, shares),
    "AUsPRO": (metric(thfr_ext.metrics.AUsPRO), spro_arguments, shares),
    "AUROC": (metric(thfr_ext.metrics.AUROC), auroc_arguments, shares),
}

REGISTERED: dict[str, tuple[Make, Check]] = {
    "cosine_distance": (distance_arguments, distance),
    "cosine_distance_backward": (backward_arguments, gradients),
    "anomaly_map": (map_arguments, anomaly),
    "nearest_templates": (nearest_arguments, nearest),
    "greedy_coreset": (coreset_arguments, coreset),
    "label_regions": (mask_arguments, labels),
    "component_samples": (pro_arguments, samples),
    "region_samples": (lambda rng: spro_arguments(rng)[:2], samples),
    "au_pro": (lambda rng: [*pro_arguments(rng), limit(rng)], shares),
    "pro_curve": (pro_arguments, curve),
    "au_spro": (lambda rng: [*joined(spro_arguments(rng)), limits(rng)], shares),
    "spro_curve": (lambda rng: joined(spro_arguments(rng)), curve),
    "spro_area": (area_arguments, shares),
    "auroc": (auroc_arguments, shares),
    "pack_scores": (lambda rng: [tensor(rng, [rng.randrange(60)])], packed_scores),
    "merge_packed": (lambda rng: [packed(rng)], packed_scores),
    "packed_area": (packed_area_arguments, shares),
    "packed_auroc": (lambda rng: [packed(rng), packed(rng)], shares),
    "merge_cells": (cell_arguments, joined_cells),
    "cells_area": (lambda rng: [cells(rng), cells(rng), 50.0, limits(rng)], bounds),
}


def brief(value: Any) -> str:
    if isinstance(value, (list, tuple)):
        return f"[{', '.join(map(brief, value))}]"
    if isinstance(value, Tensor):
        strides = value.stride() if value.layout == torch.strided else value.layout
        return f"{list(value.shape)} {strides} {value.dtype} {value.device}"
    return f"{value.shape} {value.strides} {value.dtype}" if isinstance(value, np.ndarray) else repr(value)


def attempt(name: str, call: Callable[..., Any], arguments: list[Any], check: Check, refusal: str) -> bool:
    """Whether there was a result, checked; a refusal must match."""
    problem: Exception
    try:
        result = call(*arguments)
    except (ValueError, TypeError) as error:
        refused, problem = bool(re.match(refusal, str(error))), error
    except (NotImplementedError, RuntimeError) as error:
        # In torch's words: meta tensors have no values; a schema refuses; no kernel for this kind of tensor.
        registered = call is getattr(OPERATORS, name, None) and f"thfr_ext::{name}" in str(error)
        refused, problem = registered or (on_meta(arguments) and "meta" in str(error)), error
    else:
        return checked(result, arguments, check)
    if not refused:
        raise AssertionError(f"{brief(arguments)}: {problem!r:.300}") from problem
    return False


def checked(result: Any, arguments: list[Any], check: Check) -> bool:
    if not on_meta(arguments):
        try:
            check(result, arguments)
        except AssertionError as error:
            raise AssertionError(f"{brief(arguments)} gave {result}") from error
    return True


def fuzz(name: str, call: Callable[..., Any], make: Make, check: Check, refusal: str) -> None:
    """A third of the cases as they are made, the others with one or two arguments changed."""
    results = 0
    for case in range(CASES):
        rng = random.Random(f"{name} {case}")
        arguments = make(rng)
        for _ in range(case % 3):
            i = rng.randrange(len(arguments))
            arguments[i] = changed(rng, arguments[i])
        results += attempt(name, call, arguments, check, refusal)
    assert CASES // 10 < results < CASES  # both sides of the checks have been seen


def test_every_function_and_operator_is_here() -> None:
    functions = set(thfr_ext.__all__) - {"__version__", "build_info", "metrics"}
    assert set(FUNCTIONS) == functions | set(thfr_ext.metrics.__all__)
    assert set(REGISTERED) == set(_library.BACKENDS)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_functions(name: str) -> None:
    call, make, check = FUNCTIONS[name]
    # A metric takes its samples with an operator.
    fuzz(name, call, make, check, rf"{name}: |region_samples: " if name == "AUsPRO" else rf"{name}: ")


@pytest.mark.parametrize("name", REGISTERED)
def test_operators(name: str) -> None:
    make, check = REGISTERED[name]
    fuzz(name, getattr(OPERATORS, name), make, check, rf"{name}: |thfr_ext::{name}\(\) ")


# The native module believes no Python: whatever the tuples say, so long as the memory that they name is there


BYTES = {0: 4, 1: 8, 2: 2, 3: 2, 4: 1, 5: 8}


def is_view(value: Any) -> bool:
    return isinstance(value, tuple) and len(value) == 4 and all(isinstance(part, tuple) for part in value[2:])


def other_view(rng: random.Random, given: Any, others: list[Any]) -> Any:
    """A tuple that stays within the memory of ``given``, or that is no tensor at all."""
    address, code, sizes, strides = given
    kind = rng.randrange(8)
    if kind == 0 or code not in BYTES or not all(isinstance(n, int) and 0 <= n < 2**20 for n in sizes):
        return rng.choice(JUNK)
    if kind == 1:
        parts = [0, code, sizes, strides]
        parts[rng.randrange(4)] = rng.choice(
            ["x", None, 1.5, 2**70, -1, (), (-1,), ("x",), (2**40, 2**40), (2**70,)]
        )
        return (*parts, 0) if rng.random() < 0.1 else tuple(parts) if parts[0] == 0 else given
    if kind == 2:
        return rng.choice(others)
    if kind == 3 and sizes:
        i = rng.randrange(len(sizes))
        return address, code, (*sizes[:i], rng.randrange(sizes[i] + 1), *sizes[i + 1 :]), strides
    if kind == 4 and sizes:
        return address, code, sizes[1:], strides[1:]
    if kind == 5:
        return address, code, (1, *sizes), (0, *strides)
    if kind == 6:
        return address, rng.choice([c for c, n in BYTES.items() if n <= BYTES[code]]), sizes, strides
    return address, code, sizes[::-1], strides[::-1]


def other_value(rng: random.Random, value: Any, others: list[Any]) -> Any:
    if is_view(value):
        return other_view(rng, value, others)
    if isinstance(value, (list, tuple)) and value and rng.random() < 0.9:
        copy, i = list(value), rng.randrange(len(value))
        if rng.random() < 0.2:
            del copy[i]
        else:
            copy[i] = other_value(rng, copy[i], others)
        return type(value)(copy)
    if isinstance(value, (int, float)):
        return rng.choice([0, -1, 1, 7, 2**40, 2**70, math.nan, "x", None])
    return rng.choice(JUNK)


def views_in(value: Any) -> list[Any]:
    if is_view(value):
        return [value]
    return [v for part in value for v in views_in(part)] if isinstance(value, (list, tuple)) else []


class Memory:
    """Of some views, to be put back after calls that write anywhere in them."""

    def __init__(self, views: list[Any]) -> None:
        self.kept = []
        for address, code, sizes, strides in views:
            if 0 not in sizes:
                last = sum(stride * (n - 1) for n, stride in zip(sizes, strides, strict=True))
                self.kept.append((address, ctypes.string_at(address, BYTES[code] * (last + 1))))

    def restore(self) -> None:
        for address, content in self.kept:
            ctypes.memmove(address, content, len(content))


NATIVE = [
    name for name in dir(_C) if callable(getattr(_C, name)) and name not in ("build_facts", "cuda_devices")
]


@pytest.mark.parametrize("name", NATIVE)
def test_native_module(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """After each of its real calls come calls with other arguments."""
    native, rng, refused, made = getattr(_C, name), random.Random(name), 0, 0

    def with_others(*arguments: Any) -> Any:
        nonlocal refused, made
        result, others = native(*arguments), views_in(arguments)
        memory = Memory(others)
        for _ in range(10):
            changed_arguments = list(arguments)
            for _ in range(rng.randrange(1, 3)):
                i = rng.randrange(max(len(arguments) - 1, 1))  # not the number of threads, the last
                changed_arguments[i] = other_value(rng, changed_arguments[i], others)
            made += 1
            try:
                native(*changed_arguments)
            except (ValueError, TypeError) as error:
                refused += 1
                words = rf"_C\.\w+: |{name}\(\): incompatible|nearest_templates: |greedy_coreset: |"
                words += r"pack_scores: scores: |merge_cells: |packed scores: "
                if not re.match(words, str(error)):
                    raise AssertionError(f"{changed_arguments}: {error!r}") from error
        memory.restore()
        return result

    monkeypatch.setattr(_C, name, with_others)
    for operator, (make, check) in REGISTERED.items():
        for case in range(8):
            arguments = make(random.Random(f"{operator} {case}"))
            attempt(operator, getattr(OPERATORS, operator), arguments, check, rf"{operator}: ")
    assert made // 4 < refused < made
