"""An approximate bank: a faiss index in place of the exact search, with its recall beside it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from thfr.banks.sharded import ShardedBank
from thfr.errors import InputError
from thfr.extras import require


def _faiss() -> Any:
    return require("bank: a faiss index", "faiss", "faiss")


class FaissBank:
    """A faiss index (flat, IVF, on disk, ...) with the interface of :class:`ShardedBank`.

    Its rows are numbered as those of the bank it was built from. Scores are faiss's own: distances are their
    square roots, so that they mean the same as everywhere here; they are not rescored.

    Args:
        index: a faiss index of metric L2, or inner product.
        bank: whose rows they are; without one :meth:`rows` has none, and inner products are not made cosines.
        probes: lists that an IVF index looks at; more are slower and miss less.
    """

    def __init__(self, index: Any, bank: ShardedBank | None = None, probes: int | None = None) -> None:
        self._faiss, self.index, self.bank = _faiss(), index, bank
        self.metric = "l2" if index.metric_type == self._faiss.METRIC_L2 else "dot"
        if probes is not None:
            self._faiss.extract_index_ivf(index).nprobe = probes

    @classmethod
    def load(
        cls, path: str | os.PathLike[str], bank: ShardedBank | None = None, probes: int | None = None
    ) -> FaissBank:
        """An index that ``faiss.write_index`` wrote; its lists stay on disk.

        Raises:
            InputError: faiss is not installed, or no index there.
        """
        faiss = _faiss()
        try:
            index = faiss.read_index(os.fspath(path), faiss.IO_FLAG_MMAP)
        except RuntimeError as error:
            raise InputError(f"bank: {path} is no faiss index that can be read: {error}") from error
        return cls(index, bank, probes)

    @classmethod
    def build(
        cls, bank: ShardedBank, factory: str = "IVF256,Flat", probes: int = 16, seed: int = 0
    ) -> FaissBank:
        """An index over the rows of a bank, added shard by shard.

        Args:
            factory: of ``faiss.index_factory``. What it trains on is a random sample of the rows.
        """
        faiss = _faiss()
        metric = faiss.METRIC_L2 if bank.index.metric == "l2" else faiss.METRIC_INNER_PRODUCT
        index = faiss.index_factory(bank.index.width, factory, metric)
        cosine = bank.index.metric == "cosine"
        if not index.is_trained:
            generator = torch.Generator().manual_seed(seed)
            wanted = min(len(bank), 64 * max(256, getattr(index, "nlist", 256)))
            sample = torch.randperm(len(bank), generator=generator)[:wanted].sort().values
            index.train(_rows(bank.rows(sample), cosine))
        for start, rows in zip(bank.index.starts, bank.index.shards, strict=True):
            index.add(_rows(bank.rows(torch.arange(start, start + rows)), cosine))
        return cls(index, bank, probes if hasattr(index, "nprobe") else None)

    def save(self, path: str | os.PathLike[str]) -> None:
        self._faiss.write_index(self.index, os.fspath(Path(path)))

    @property
    def width(self) -> int:
        return int(self.index.d)

    def __len__(self) -> int:
        return int(self.index.ntotal)

    def rows(self, indices: Tensor) -> Tensor:
        """Rows of the bank that the index was built from.

        Raises:
            InputError: it was loaded without one.
        """
        if self.bank is None:
            raise InputError("FaissBank: rows are in the bank that it was built from, which was not given")
        return self.bank.rows(indices)

    def search(
        self,
        queries: Tensor,  # fp32 [Q,D]
        k: int = 1,
    ) -> tuple[Tensor, Tensor]:  # fp32 [Q,k], int64 [Q,k]
        """About the k best rows; index -1 where the lists looked at hold fewer."""
        cosine = self.bank is not None and self.bank.index.metric == "cosine"
        scores, indices = self.index.search(_rows(queries.detach().cpu(), cosine), k)
        found = torch.from_numpy(scores)
        return (found.clamp_min(0).sqrt() if self.metric == "l2" else found), torch.from_numpy(indices)


def _rows(rows: Tensor, cosine: bool) -> Any:
    values = rows.float()
    return (torch.nn.functional.normalize(values, dim=1) if cosine else values).contiguous().numpy()


def measured_recall(exact: Any, approximate: Any, queries: Tensor, k: int = 1) -> float:
    """The share of the exact k best rows that an approximate search finds, over some queries."""
    true, found = exact.search(queries, k)[1], approximate.search(queries, k)[1]
    return float((true[:, :, None] == found[:, None, :]).any(2).double().mean())
