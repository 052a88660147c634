"""Tensors in files that are mapped into memory, of which a process keeps only what it is reading."""

from __future__ import annotations

import mmap
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from weakref import WeakValueDictionary

import torch
from torch import Tensor

_maps: WeakValueDictionary[int, mmap.mmap] = WeakValueDictionary()  # by their address


def mapped_bytes(size: int, folder: Path | None = None) -> Tensor:  # uint8 [size]
    """Zeros in a file in ``folder`` that has no name and goes with the tensor."""
    with tempfile.TemporaryFile(prefix=".images-", dir=folder) as file:
        if hasattr(os, "posix_fallocate"):
            os.posix_fallocate(file.fileno(), 0, size)  # else a full disk ends in SIGBUS
        else:
            file.truncate(size)
        memory = mmap.mmap(file.fileno(), size)
    values = torch.frombuffer(memory, dtype=torch.uint8)
    _maps[values.data_ptr()] = memory
    return values


def give_back(values: Tensor) -> None:
    """Have a tensor of :func:`mapped_bytes` take no memory until it is read again; others stay as they are.
    The system keeps the file in its cache while there is room.
    """
    memory = _maps.get(values.untyped_storage().data_ptr())
    if memory is not None and hasattr(mmap, "MADV_DONTNEED"):
        memory.madvise(mmap.MADV_DONTNEED)


def pieces(values: Tensor, size: int) -> Iterator[Tensor]:
    """``values.split(size)``, of which one is in memory at a time if they are mapped."""
    for piece in values.split(size):
        yield piece
        give_back(values)
