"""Several processes of ``torchrun``, by torch.distributed: gloo on CPUs, nccl on GPUs.

Everything here also works in a single process, where it does nothing, and imports torch only where there
is a group.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, TypeVar

_Value = TypeVar("_Value")
_Rows = TypeVar("_Rows")
_PATIENCE = timedelta(hours=2)  # rank 0 may calibrate and write while the others wait


def launched() -> bool:
    """Whether ``torchrun`` has started this process beside others."""
    given = {"RANK", "MASTER_ADDR", "MASTER_PORT"} <= os.environ.keys()
    return given and int(os.environ.get("WORLD_SIZE", "1")) > 1


@contextmanager
def process_group(device: str = "auto") -> Iterator[None]:
    """The group of ``torchrun``'s processes for as long as the block runs; nothing without ``torchrun``.

    With nccl each process takes the GPU of its local rank.
    """
    if not launched() or _group() is not None:
        yield
        return
    import torch

    cuda = device != "cpu" and torch.cuda.is_available()
    if cuda:
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")) % torch.cuda.device_count())
    torch.distributed.init_process_group("cpu:gloo,cuda:nccl" if cuda else "gloo", timeout=_PATIENCE)
    try:
        yield
    finally:
        torch.distributed.destroy_process_group()


def _group() -> Any:
    """torch.distributed where a group is at work; else None."""
    torch = sys.modules.get("torch")
    found = None if torch is None else torch.distributed
    return found if found is not None and found.is_available() and found.is_initialized() else None


def rank() -> int:
    """This process's number, from 0."""
    group = _group()
    return 0 if group is None else int(group.get_rank())


def world() -> int:
    """The number of processes."""
    group = _group()
    return 1 if group is None else int(group.get_world_size())


def is_main() -> bool:
    """Whether this is the process that writes files and shows progress."""
    return rank() == 0


def barrier() -> None:
    """Wait for all processes."""
    group = _group()
    if group is not None:
        group.barrier()


def gather_objects(value: _Value) -> list[_Value]:
    """The value of every process, by rank, on each of them."""
    group = _group()
    if group is None:
        return [value]
    found: list[Any] = [None] * world()
    group.all_gather_object(found, value)
    return found


def collect_objects(value: _Value) -> list[_Value]:
    """The value of every process, by rank, on the main one; an empty list on the others."""
    group = _group()
    if group is None:
        return [value]
    found: list[Any] | None = [None] * world() if is_main() else None
    group.gather_object(value, found, dst=0)
    return found or []


def mine(rows: _Rows) -> _Rows:
    """This process's share of the rows of a batch: anything with a length and slices.

    Raises:
        InputError: they cannot be shared equally, so that means over shares would not be those of the batch.
    """
    if world() == 1:
        return rows
    count = len(rows)  # type: ignore[arg-type]
    if count % world():
        from thfr.errors import InputError

        raise InputError(
            f"train: batch_size: expected a multiple of the {world()} processes, got {count}; "
            "change it with --config, or start another number"
        )
    share = count // world()
    return rows[rank() * share : (rank() + 1) * share]  # type: ignore[index,no-any-return]


def share_batches(store: Sequence[Any], batch_size: int) -> None:
    """Fill a store [N,...] of which the processes have computed batches in turns: every batch goes from its
    process to all others. A store that all processes map from one file needs no more than
    waiting.
    """
    group = _group()
    if group is None:
        return
    for tensor in store:
        for number, start in enumerate(range(0, len(tensor), batch_size)):
            part = tensor[start : start + batch_size].contiguous()
            group.broadcast(part, src=number % world())
            tensor[start : start + batch_size] = part
