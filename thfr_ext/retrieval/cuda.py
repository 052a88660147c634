"""The retrieval operators on CUDA: allocation, products and launches, nothing that waits for the device.

A product says which rows can be among the best (with a proved bound), and those are scored exactly: block by
block, in fp32 of few queries, which reads the bank once, in half precision by the library of many. Few fp64
queries: exact scores of everything. More neighbours than a list in shared memory holds: the same, and sorts.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import torch
from torch import Tensor

from thfr_ext.core import devices
from thfr_ext.core.products import product_of
from thfr_ext.core.tensors import NO_TENSOR, accumulate_dtype, view
from thfr_ext.retrieval.checks import METRICS, Progress, empty_result
from thfr_ext.retrieval.reference import first_coreset_index

#: Queries up to which the bank is read once for every four: more, and a product is quicker.
FEW_QUERIES = 8
#: Neighbours that a list of the kernels holds (``most_listed`` in csrc/include/thfr/cuda.h).
MOST_LISTED = 64
#: Numbers that a product adds up: what its error grows with. Longer rows are cut into parts.
CHAIN = 2048
#: Bytes of products at a time: they stay in the L2 cache of the GPUs this is made for.
PRODUCT_BYTES = 16 * 2**20
#: Bytes of packed operands of a side, and of costs to sort.
PACKED_BYTES = 64 * 2**20
MOST_QUERIES = 4096  # of a product
NO_ROW = 2**63 - 1
_HALVES = (torch.float16, torch.bfloat16)

#: Differences between two calls of progress: some tenths of a second.
CORESET_CHUNK = 500_000_000_000


@dataclass
class _Search:
    """What the native module takes as a search."""

    given: Tensor  # [Q,D]: the queries as they came
    queries: Tensor  # [Q,D]: the same in fp64 for an fp64 bank, else in fp32
    bank: Tensor  # [N,D]
    metric: int
    exclude: Tensor | None  # [Q]
    metadata: Tensor  # [Q,2] fp64
    bad: Tensor  # [1] int64

    def views(self) -> tuple[Any, ...]:
        exclude = NO_TENSOR if self.exclude is None else view(self.exclude)
        return view(self.queries), view(self.metadata), view(self.bank), self.metric, exclude, view(self.bad)

    def parts(self, most: int) -> Iterator[tuple[slice, _Search]]:
        """Up to ``most`` of the queries at a time."""
        for begin in range(0, len(self.queries), most):
            part = slice(begin, begin + most)
            exclude = None if self.exclude is None else self.exclude[part]
            yield (
                part,
                replace(
                    self,
                    given=self.given[part],
                    queries=self.queries[part],
                    metadata=self.metadata[part],
                    exclude=exclude,
                ),
            )


class _Lists(NamedTuple):
    keys: Tensor  # [Q,L,k] fp64
    rows: Tensor  # [Q,L,k] int64

    @classmethod
    def empty(cls, like: Tensor, *shape: int) -> _Lists:
        return cls(like.new_empty(shape, dtype=torch.float64), like.new_empty(shape, dtype=torch.int64))

    def views(self, part: slice = slice(None)) -> tuple[Any, ...]:
        return view(self.keys[part]), view(self.rows[part])


def nearest_templates(
    queries: Tensor, bank: Tensor, k: int, metric: str, exclude: Tensor | None
) -> tuple[Tensor, Tensor]:
    scores, indices = empty_result(queries, k)
    if len(queries) == 0:
        return scores, indices
    with devices.on_device_of(queries) as stream:
        metadata = queries.new_empty((len(queries), 2), dtype=torch.float64)
        bad = queries.new_zeros(1, dtype=torch.int64)
        own = None if exclude is None else exclude.contiguous()
        search = _Search(
            queries, queries.to(accumulate_dtype(bank.dtype)), bank, METRICS[metric], own, metadata, bad
        )
        devices.native.cuda_describe_queries(view(queries), view(metadata), stream)
        if k > MOST_LISTED:
            lists = _by_sorts(search, k, stream)
        elif len(queries) <= FEW_QUERIES and bank.dtype == torch.float64:
            lists = _by_strips(search, k, stream)
        elif len(queries) <= FEW_QUERIES:
            lists = _by_rows(search, k, stream)
        else:
            lists = _by_products(search, k, stream)
        devices.native.cuda_conclude(search.views(), lists.views(), view(scores), view(indices), stream)
    return scores, indices


def _by_strips(search: _Search, k: int, stream: int) -> _Lists:
    strips = devices.native.cuda_bank_strips(len(search.queries), *search.bank.shape)
    lists = _Lists.empty(search.queries, len(search.queries), strips, k)
    devices.native.cuda_search_bank(search.views(), lists.views(), stream)
    return lists


def _by_rows(search: _Search, k: int, stream: int) -> _Lists:
    count, rows = len(search.queries), len(search.bank)
    block = _even(rows, PRODUCT_BYTES // (4 * count), 64)
    lists = _Lists.empty(search.queries, count, devices.native.cuda_select_strips(count, block), k)
    slack = devices.native.cuda_multiply_slack(view(search.bank))
    for first in range(0, rows, block):
        here = min(block, rows - first)
        products = lists.keys.new_empty((1, count, here), dtype=torch.float32)
        gains = [lists.rows.new_empty(n) for n in (count, here)]
        steps = view(products), view(gains[0]), view(gains[1])
        devices.native.cuda_multiply_rows(search.views(), first, *steps, stream)
        devices.native.cuda_select_rows(search.views(), *steps, slack, first, lists.views(), stream)
    return lists


def _by_sorts(search: _Search, k: int, stream: int) -> _Lists:
    lists = _Lists.empty(search.queries, len(search.queries), 1, k)
    rows = len(search.bank)
    block = min(rows, max(k, 65536))
    # A cost and a row for each of the best so far and of the block; sorts take as much again.
    for part, some in search.parts(max(1, PACKED_BYTES // (32 * (k + block)))):
        count = len(some.queries)
        best, best_rows = lists.keys.new_empty((count, 0)), lists.rows.new_empty((count, 0))
        for first in range(0, rows, block):
            numbers = torch.arange(first, min(first + block, rows), device=best.device)
            costs = best.new_empty((count, len(numbers)))
            devices.native.cuda_pair_costs(some.views(), first, view(costs), stream)
            # Stable, and rows rise: ties go to the lower one. NaN, which is no row, comes last.
            best, order = torch.cat([best, costs], 1).sort(dim=1, stable=True)
            best_rows = torch.cat([best_rows, numbers.expand(count, -1)], 1).gather(1, order[:, :k])
            best = best[:, :k]
        lists.keys[part, 0] = 0.0 - best
        lists.rows[part, 0] = best_rows.masked_fill(best.isnan(), NO_ROW)
    return lists


class _Operands(NamedTuple):
    """How rows become operands of products (pack_rows in csrc/include/thfr/cuda.h)."""

    parts: int  # of each element; 0: rows are operands as they are
    planes: int  # products that are added
    length: int  # elements of a plane

    @property
    def width(self) -> int:
        return self.planes * self.length

    def slack(self, columns: int) -> float:
        """Bound of a product's error, relative to the norms of both rows.

        Additions: 2**-23 of what is added, twice, for tensor cores cut off what they align. The parts left
        out and fp32 gains: 2**-19. Halves far below their row's largest vanish: the last term.
        """
        return self.length * 2.0**-22 + 2.0**-19 + math.sqrt(columns) * 2.0**-37


def _choose_operands(queries: Tensor, bank: Tensor) -> _Operands:
    columns, half = bank.shape[1], bank.dtype in _HALVES
    parts = (1 if queries.dtype == bank.dtype else 2) if half else 3
    least = -(-parts * columns // CHAIN)
    if parts == 1 and _are_operands(queries) and _are_operands(bank):
        for planes in range(least, 2 * least + 1):
            if columns % (8 * planes) == 0:
                return _Operands(0, planes, columns // planes)
    length = -(-parts * columns // least)
    return _Operands(parts, least, -(-length // 8) * 8)


def _are_operands(rows: Tensor) -> bool:
    """Whether the library reads rows as they lie, 16 bytes at a time."""
    step, stride = rows.stride()
    return stride == 1 and step >= rows.shape[1] and step % 8 == 0 and rows.data_ptr() % 16 == 0


def _make_operands(
    rows: Tensor, how: _Operands, is_bank: bool, search: _Search, stream: int
) -> tuple[Tensor, Tensor]:
    """Operands [planes,n,length] and their gains [n] int64."""
    gains = rows.new_empty(len(rows), dtype=torch.int64)
    made = rows if how.parts == 0 else rows.new_empty((len(rows), how.width), dtype=torch.float16)
    devices.native.cuda_pack_rows(
        view(rows),
        max(how.parts, 1),
        is_bank,
        search.metric,
        NO_TENSOR if how.parts == 0 else view(made),
        view(gains),
        view(search.bad) if is_bank else NO_TENSOR,
        stream,
    )
    return made.unflatten(1, (how.planes, how.length)).transpose(0, 1), gains


def _product(queries: Tensor, bank: Tensor) -> Tensor:  # [P,Q,L], [P,B,L] -> [P,Q,B] fp32
    """Products of halves, which fp32 and TF32 hold exactly, added in fp32, whatever autocast is on."""
    with product_of("nearest_templates", queries.device):
        if queries.is_cuda and "dtype" in torch.ops.aten.bmm.overloads():  # torch 2.8
            return torch.bmm(queries, bank.mT, out_dtype=torch.float32)
        return torch.bmm(queries.float(), bank.float().mT)


def _even(count: int, most: int, unit: int) -> int:
    """The size of the fewest equal blocks of at most about ``most``, a multiple of ``unit``."""
    blocks = -(-count // max(most // unit * unit, unit))
    return -(-count // (blocks * unit)) * unit


def _by_products(search: _Search, k: int, stream: int) -> _Lists:
    how = _choose_operands(search.given, search.bank)
    packed = max(1, PACKED_BYTES // (2 * how.width))  # rows
    at_once = _even(len(search.queries), min(MOST_QUERIES, packed), 1)
    block = PRODUCT_BYTES // (4 * how.planes * at_once)
    block = _even(len(search.bank), block if how.parts == 0 else min(block, packed), 64)
    slack = how.slack(search.bank.shape[1])
    strips = devices.native.cuda_select_strips(len(search.queries) % at_once or at_once, block)
    lists = _Lists.empty(search.queries, len(search.queries), strips, k)
    for part, some in search.parts(at_once):
        x, query_gains = _make_operands(some.given, how, False, some, stream)
        for first in range(0, len(search.bank), block):
            y, bank_gains = _make_operands(search.bank[first : first + block], how, True, some, stream)
            products = _product(x, y)
            devices.native.cuda_select_rows(
                some.views(),
                view(products),
                view(query_gains),
                view(bank_gains),
                (slack, 0.0),
                first,
                lists.views(part),
                stream,
            )
    return lists


def greedy_coreset(bank: Tensor, size: int, seed: int, progress: Progress | None = None) -> Tensor:
    """See :func:`thfr_ext.greedy_coreset`. Waits for the device where there is ``progress`` to tell."""
    native = devices.native
    with devices.on_device_of(bank) as stream:
        chosen = bank.new_empty(size, dtype=torch.int64)
        distances = bank.new_full((len(bank),), math.inf, dtype=torch.float64)
        largest = bank.new_zeros(1, dtype=torch.int64)
        farthest = _Lists.empty(bank, 2, native.cuda_coreset_blocks(*bank.shape))
        first = first_coreset_index(len(bank), seed)
        native.cuda_largest_magnitude(view(bank), view(largest), stream)
        steps = size if progress is None else max(1, CORESET_CHUNK // bank.numel())
        for begin in range(0, size, steps):
            end = min(begin + steps, size)
            native.cuda_greedy_coreset(
                view(bank),
                view(largest),
                first,
                view(distances),
                farthest.views(),
                view(chosen),
                begin,
                end,
                stream,
            )
            if progress is not None:
                chosen[end - 1].item()  # waits
                progress(end, size)
    return chosen
