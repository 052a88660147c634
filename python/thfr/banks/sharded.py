"""A bank in shards on disk. Every search is exact: the result is that of one bank in memory, to the bit."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

import thfr_ext
from thfr.banks.files import INDEX, BankIndex, Keys, Metric, opened_shard, read_index, shard_path
from thfr.banks.quantised import nearest_of_codes, quantised
from thfr.errors import InputError
from thfr.runs.tensors import save_tensors

SHARD_BYTES = 64 << 20


class BankWriter:
    """Writes a bank, some rows at a time; what it holds meanwhile is one shard.

        with BankWriter("bank", width=384) as writer:
            for rows in batches:  # [n,384]
                writer.add(rows)

    ``bank.json`` comes last, so that a folder without it is no bank.

    Args:
        folder: new, or empty.
        width: D.
        metric: that of every search.
        keys: ``fp16``, or ``int8``: beside the fp16 rows there are codes of half their size, which are what
            a search reads; the fp16 rows of the candidates decide (:mod:`thfr.banks.quantised`).
        shard_bytes: of fp16 rows in one file.

    Raises:
        InputError: the folder holds something, or cannot be made.
    """

    def __init__(
        self,
        folder: str | os.PathLike[str],
        width: int,
        metric: Metric = "l2",
        keys: Keys = "fp16",
        shard_bytes: int = SHARD_BYTES,
    ) -> None:
        self.folder, self.width, self.metric, self.keys = Path(folder), width, metric, keys
        self._limit = max(1, shard_bytes // (2 * width))
        self._waiting: list[Tensor] = []
        self._count = 0
        self._shards: list[int] = []
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            held = next(self.folder.iterdir(), None)
        except OSError as error:
            raise InputError(f"bank: cannot make the folder {self.folder}: {error}") from error
        if held is not None:
            raise InputError(f"bank: expected a new folder, {self.folder} holds {held.name}")

    def __enter__(self) -> BankWriter:
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        if kind is None:
            self.finish()

    def add(
        self,
        rows: Tensor,  # [n,D] of floats
    ) -> None:
        """Append rows, as fp16.

        Raises:
            ValueError: another shape, or a value that fp16 cannot hold.
        """
        if rows.dim() != 2 or rows.shape[1] != self.width or not rows.is_floating_point():
            raise ValueError(f"bank: rows: expected floats [n,{self.width}], got {list(rows.shape)}")
        kept = rows.detach().to("cpu", torch.float16)
        if not bool(kept.isfinite().all()):
            raise ValueError("bank: rows: expected numbers that fp16 can hold, got NaN or infinity")
        for piece in kept.split(self._limit):
            self._waiting.append(piece.clone())
            self._count += len(piece)
            while self._count >= self._limit:
                self._write(self._limit)

    def _write(self, rows: int) -> None:
        together = torch.cat(self._waiting)
        shard, rest = together[:rows], together[rows:]
        tensors = {"rows": shard}
        if self.keys == "int8":
            tensors |= quantised(shard, self.metric)
        save_tensors(tensors, shard_path(self.folder, len(self._shards)))
        self._shards.append(len(shard))
        self._waiting, self._count = [rest.clone()] if len(rest) else [], len(rest)

    def finish(self) -> ShardedBank:
        """Write the last shard and the index.

        Raises:
            ValueError: no row was added.
        """
        if self._count:
            self._write(self._count)
        if not self._shards:
            raise ValueError("bank: rows: expected at least one, got none")
        BankIndex(self.width, self.metric, self.keys, tuple(self._shards)).write(self.folder)
        return ShardedBank(self.folder)


class ShardedBank:
    """A bank that :class:`BankWriter` wrote. Opening it reads its index alone; a search maps one shard after
    another, so that it needs the memory of one shard and of its results.

    Raises:
        InputError: no bank there.
    """

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        self.folder = Path(folder)
        self.index = read_index(self.folder)

    @classmethod
    def exists(cls, folder: str | os.PathLike[str]) -> bool:
        return (Path(folder) / INDEX).is_file()

    @property
    def width(self) -> int:
        return self.index.width

    def __len__(self) -> int:
        return self.index.rows

    def search(
        self,
        queries: Tensor,  # fp32 [Q,D]
        k: int = 1,
        shards: Sequence[int] | None = None,
    ) -> tuple[Tensor, Tensor]:  # fp32 [Q,k], int64 [Q,k]
        """The k best rows for each query, as :func:`thfr_ext.nearest_templates` on the whole bank.

        Args:
            shards: look at these alone: for several processes, whose results
                :func:`thfr_ext.merge_nearest` joins. Where they hold fewer than k rows, index -1 is no row.

        Raises:
            ValueError: as :func:`thfr_ext.nearest_templates`.
            InputError: a shard's file is missing or damaged.
        """
        queries = queries.float().cpu()
        if not 1 <= k <= len(self):
            raise ValueError(f"ShardedBank.search: k: expected 1 to {len(self)}, got {k}")
        metric, starts = self.index.metric, self.index.starts
        best = padded(queries.new_zeros((len(queries), 0)), torch.zeros((len(queries), 0)).long(), k, metric)
        for number in range(len(starts)) if shards is None else shards:
            rows = self.index.shards[number]
            with opened_shard(self.folder, number, rows, self.index.width) as tensors:
                if self.index.keys == "int8":
                    found = nearest_of_codes(queries, tensors, min(k, rows), metric)
                else:
                    found = thfr_ext.nearest_templates(queries, tensors["rows"], min(k, rows), metric)
            found = padded(found[0], found[1] + starts[number], k, metric)
            both = [torch.stack(pair) for pair in zip(best, found, strict=True)]
            best = thfr_ext.merge_nearest(both[0], both[1], k, metric)
        return best

    def rows(
        self,
        indices: Tensor,  # int64 [n]
    ) -> Tensor:  # fp16 [n,D]
        """Some rows, read from their shards."""
        flat = indices.reshape(-1).cpu()
        result = torch.empty((len(flat), self.index.width), dtype=torch.float16)
        bounds = torch.tensor([*self.index.starts, len(self)])
        of = torch.bucketize(flat, bounds, right=True) - 1
        for number in of.unique().tolist():
            with opened_shard(self.folder, number, self.index.shards[number], self.index.width) as tensors:
                here = of == number
                result[here] = tensors["rows"][flat[here] - bounds[number]]
        return result


def padded(scores: Tensor, indices: Tensor, k: int, metric: Metric) -> tuple[Tensor, Tensor]:
    """Results [Q,n] with columns of no result (index -1) up to [Q,k]."""
    missing = k - scores.shape[1]
    worst = math.inf if metric == "l2" else -math.inf
    return (
        torch.nn.functional.pad(scores, (0, missing), value=worst),
        torch.nn.functional.pad(indices, (0, missing), value=-1),
    )
