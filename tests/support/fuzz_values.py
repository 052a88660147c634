"""Random tensors and other values, and changed ones in place of arguments."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

FLOATS = (torch.float32, torch.float64, torch.float16, torch.bfloat16)
DTYPES = (*FLOATS, torch.bool, torch.int64, torch.int32, torch.uint8, torch.complex64)


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
