"""Search over shards in several processes, each with its own shards."""

from __future__ import annotations

import multiprocessing
import os
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import torch
from torch import Tensor

import thfr_ext
from thfr.banks.sharded import ShardedBank, padded


class SearchProcesses:
    """Processes that search one bank; their results are those of one process, to the bit.

        with SearchProcesses("bank", 4) as bank:
            distances, indices = bank.search(queries, k=3)

    Under ``torchrun`` use :func:`search_of_group`: its processes are there already.
    """

    def __init__(self, folder: str | os.PathLike[str], processes: int, threads: int = 1) -> None:
        self._bank = ShardedBank(folder)
        self._processes = min(processes, len(self._bank.index.shards))
        context = multiprocessing.get_context("spawn")  # a fork would copy torch's threads' locks
        self._pool = ProcessPoolExecutor(
            self._processes, mp_context=context, initializer=torch.set_num_threads, initargs=(threads,)
        )

    def __enter__(self) -> SearchProcesses:
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown(wait=True, cancel_futures=True)

    @property
    def width(self) -> int:
        return self._bank.width

    def __len__(self) -> int:
        return len(self._bank)

    def rows(self, indices: Tensor) -> Tensor:
        return self._bank.rows(indices)

    def search(self, queries: Tensor, k: int = 1) -> tuple[Tensor, Tensor]:
        """As :meth:`ShardedBank.search`."""
        folder, given = self._bank.folder, queries.detach().cpu().numpy()
        jobs = [
            self._pool.submit(_search, folder, given, k, part, self._processes)
            for part in range(self._processes)
        ]
        found = [job.result() for job in jobs]
        scores, indices = (torch.stack([torch.from_numpy(one[i]) for one in found]) for i in range(2))
        return thfr_ext.merge_nearest(scores, indices, k, self._bank.index.metric)


def _search(folder: Path, queries: object, k: int, part: int, parts: int) -> tuple[object, object]:
    bank = ShardedBank(folder)
    numbers = range(part, len(bank.index.shards), parts)
    scores, indices = bank.search(torch.from_numpy(queries), k, numbers)
    return scores.numpy(), indices.numpy()


def search_of_group(bank: ShardedBank, queries: Tensor, k: int = 1) -> tuple[Tensor, Tensor]:
    """As :meth:`ShardedBank.search`, by all processes of ``torchrun`` together; each gets the result.

    ``queries`` are the same on each.
    """
    from thfr import distributed

    numbers = range(distributed.rank(), len(bank.index.shards), distributed.world())
    mine = bank.search(queries, k, numbers)
    found = distributed.gather_objects(padded(*mine, k, bank.index.metric))
    scores, indices = (torch.stack([one[i] for one in found]) for i in range(2))
    return thfr_ext.merge_nearest(scores, indices, k, bank.index.metric)
