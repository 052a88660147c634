"""Up-sampling and blur along one axis as a dense matrix on the tensor's own device.

Made by operations that a CUDA graph can capture. A matrix that is kept is kept for good, since a captured
graph reads it whenever it is replayed; it is made in a thread and on a stream of its own, because the memory
pool of a graph that is being warmed up or captured takes what the calling thread allocates.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import torch
from torch import Tensor
from torch.nn.functional import pad

from thfr_ext.scoring.blur import TRUNCATE

#: matrices kept of a device; more are made anew by every call
MOST_KEPT = 256
#: numbers of a dense matrix
MOST_DENSE = 2**24

Made = TypeVar("Made")
_Key = tuple[int, int, float]
_kept: dict[torch.device, dict[_Key, Tensor]] = {}
_lock = threading.Lock()


def capturing(device: torch.device) -> bool:
    """Whether a CUDA graph is being captured on the current stream."""
    return device.type == "cuda" and torch.cuda.is_available() and torch.cuda.is_current_stream_capturing()


def folded_gaussian(size: int, sigma: float, device: torch.device) -> Tensor:  # [2*size] fp64
    """Taps of the Gaussian, summed over the period 2 * size of the reflected axis: entry d is offset d."""
    radius = int(TRUNCATE * sigma + 0.5)
    at = torch.arange(-radius, radius + 1, device=device, dtype=torch.float64)
    taps = torch.exp(-0.5 / (sigma * sigma) * at.square()) if radius else torch.ones_like(at)
    taps = taps / taps.sum()
    period = 2 * size
    front = -radius % period  # so that entry 0 of a period is an offset of 0
    taps = pad(taps, (front, -(front + len(taps)) % period))
    return taps.view(-1, period).sum(0)


def make_matrix(source: int, size: int, sigma: float, device: torch.device) -> Tensor:  # [size,source] fp64
    """``blur.resample_blur`` in dense form."""
    index = torch.arange(size, device=device)
    at = ((index.double() + 0.5) * (source / size) - 0.5).clamp(0, source - 1)
    columns = torch.arange(source, device=device, dtype=torch.float64)
    bilinear = (1 - (at.unsqueeze(1) - columns).abs()).clamp_min(0)
    if sigma == 0 or int(TRUNCATE * sigma + 0.5) == 0:
        return bilinear
    taps = folded_gaussian(size, sigma, device)
    row, column = index.unsqueeze(1), index
    blur = taps[(column - row) % (2 * size)] + taps[(-1 - column - row) % (2 * size)]
    return blur @ bilinear


def in_thread(make: Callable[[], Made], device: torch.device) -> Made:
    """What ``make`` gives, on a stream and in a thread of its own on CUDA; waits for it."""
    if device.type != "cuda":
        return make()
    with ThreadPoolExecutor(1, "thfr_ext-matrix") as pool:
        return pool.submit(_on_own_stream, make, device).result()


def _on_own_stream(make: Callable[[], Made], device: torch.device) -> Made:
    stream = torch.cuda.Stream(device)
    with torch.cuda.device(device), torch.cuda.stream(stream), torch.no_grad():
        made = make()
        stream.synchronize()
    return made


def matrix(source: int, size: int, sigma: float, device: torch.device) -> Tensor:  # [size,source] fp64
    """:func:`make_matrix`, kept for good if it may be. The first call for a shape waits for the device."""
    key = (source, size, sigma)
    kept = _kept.setdefault(device, {})
    found = kept.get(key)
    if found is not None:
        return found
    if capturing(device) or len(kept) >= MOST_KEPT:
        return make_matrix(*key, device)
    with _lock:
        if key not in kept:
            kept[key] = in_thread(lambda: make_matrix(*key, device), device)
    return kept[key]
