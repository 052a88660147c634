"""The retrieval operators in PyTorch operations, for CUDA tensors without a checked kernel.

Same results as the kernels. A product in fp32 says which rows may be among the best, with a bound of its
error; those are scored exactly, in fp64, and it is proved for each query that no other row can be among the
best. One wait for the whole call asks whether all are proved; the queries that are not (many rows that tie)
are done again with more rows, and in the end with all. While a CUDA graph is captured nothing can be asked:
every pair is scored exactly then, which is right and slow.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from thfr_ext.core.products import product_of
from thfr_ext.core.tensors import accumulate_dtype
from thfr_ext.retrieval.checks import Progress, first_coreset_index
from thfr_ext.scoring.resample import capturing

#: numbers that a product adds up: what its error grows with
CHAIN = 256
#: bytes of products, or of exact pairs, at a time
BLOCK_BYTES = 64 * 2**20
MOST_QUERIES = 1024
#: rows beyond k that are scored exactly, at first and for queries that are not proved by these
SPARE = (16, 240)
NO_ROW = 2**63 - 1


@dataclass
class Search:
    """What is looked for, and where."""

    queries: Tensor  # [Q,D], finite
    bank: Tensor  # [N,D], finite
    k: int
    metric: str
    exclude: Tensor | None  # [Q]

    @property
    def scaled(self) -> bool:
        return self.queries.dtype == torch.float64

    def of(self, part: slice | Tensor) -> Search:
        exclude = None if self.exclude is None else self.exclude[part]
        return replace(self, queries=self.queries[part], exclude=exclude)


def _finite(rows: Tensor) -> tuple[Tensor, Tensor]:
    """Rows with 0 in place of those that are not finite, and which are [n]."""
    finite = rows.isfinite().all(1)
    return rows.masked_fill(~finite.unsqueeze(1), 0), finite


# The filter


def _magnitude(rows: Tensor) -> Tensor:  # [n,D] -> [n,1] fp64
    return torch.linalg.vector_norm(rows, torch.inf, 1, keepdim=True).double()


def _unit(rows: Tensor) -> tuple[Tensor, Tensor]:
    """Unit vectors [n,D] fp64, or 0, and the norms [n,1]: of any magnitude."""
    most = _magnitude(rows)
    scaled = rows.double() / torch.where(most == 0, 1, most)
    norm = scaled.square().sum(1, keepdim=True).sqrt()
    return scaled / torch.where(norm == 0, 1, norm), norm * most


@dataclass
class _Filter:
    """Costs ``offset[row] - <query, operand[row]>`` rank a query's rows: the lowest is the best."""

    centre: Tensor | None  # [1,D] fp64, for l2
    scale: Tensor  # [] fp64: the largest norm

    @classmethod
    def of(cls, search: Search) -> _Filter:
        if search.metric == "cosine":
            return cls(None, torch.ones((), dtype=torch.float64, device=search.bank.device))
        centre = None
        if search.metric == "l2":
            step = max(1, len(search.bank) // 1024)
            centre = search.bank[::step].double()
            most = _magnitude(centre).amax().clamp_min(1e-300)
            centre = (centre / most).mean(0, keepdim=True) * most
        made = cls(centre, torch.ones((), dtype=torch.float64, device=search.bank.device))
        most = torch.ones_like(made.scale) * 0
        blocks = [search.queries] if centre is not None else []
        step = max(1, BLOCK_BYTES // (8 * search.bank.shape[1]))
        blocks += list(search.bank.split(step))
        for rows in blocks:
            if len(rows):
                most = torch.maximum(most, _unit(made.moved(rows))[1].amax())
        made.scale = torch.where((most > 0) & most.isfinite(), most, 1)
        return made

    def moved(self, rows: Tensor) -> Tensor:
        return rows if self.centre is None else rows.double() - self.centre

    def queries(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Operands [Q,D] fp32 and their norms [Q,1] fp64."""
        unit, norm = _unit(self.moved(rows))
        if self.centre is None:
            return unit.float(), torch.ones_like(norm)
        norm = norm / self.scale
        return (unit * norm).float(), norm

    def bank(self, rows: Tensor, metric: str) -> tuple[Tensor, Tensor | None]:
        """Operands [n,D] fp32 and offsets [n] fp32."""
        unit, norm = _unit(self.moved(rows))
        if metric == "cosine":
            return unit.float(), None
        norm = norm / self.scale
        return (unit * norm).float(), (norm.square() / 2).squeeze(1).float() if metric == "l2" else None


def _is_full_precision() -> bool:
    """Whether fp32 products are of fp32 operands, whatever API has said so."""
    try:
        highest = torch.get_float32_matmul_precision() == "highest"
        return highest and not torch.backends.cuda.matmul.allow_tf32
    except RuntimeError:  # set by the API of one torch, read by that of another
        return False


def _chain(columns: int) -> int:
    return -(-columns // -(-columns // CHAIN))


def _slack(columns: int) -> float:
    """Bound of a cost's error: additions in any order, rounded operands and offsets, sums of the parts.

    Relative to the largest norms, which are 1. Operands may be cut to TF32's 11 bits or bfloat16's 8.
    """
    parts = -(-columns // CHAIN)
    unit = 2.0**-24
    operands = 4 * unit if _is_full_precision() else 2.0**-7
    return (_chain(columns) + parts + 8) * 2 * unit + operands + math.sqrt(columns) * 2.0**-140


def _parts(rows: Tensor) -> Tensor:  # [n,D] -> [parts,n,chain]
    n, columns = rows.shape
    chain = _chain(columns)
    parts = -(-columns // chain)
    padded = torch.nn.functional.pad(rows, (0, parts * chain - columns))
    return padded.view(n, parts, chain).transpose(0, 1)


def _costs(x: Tensor, y: Tensor, offsets: Tensor | None) -> Tensor:  # [P,Q,c], [P,n,c] -> [Q,n] fp32
    with product_of("nearest_templates", x.device):
        products = torch.bmm(x, y.mT)
    total = products[0] if len(products) == 1 else products.sum(0)
    return -total if offsets is None else offsets - total


def _candidates(search: Search, how: _Filter, count: int) -> tuple[Tensor, Tensor]:
    """The ``count`` rows of lowest cost for each query, [Q,count], and the bound [Q,1] of all others."""
    (q, columns), n = search.queries.shape, len(search.bank)
    operand, norm = how.queries(search.queries)
    x = _parts(operand)
    best = x.new_empty((q, 0))
    rows = torch.empty((q, 0), dtype=torch.int64, device=x.device)
    step = max(count, BLOCK_BYTES // max(1, 4 * len(x) * q), 64)
    for first in range(0, n, step):
        y, offsets = how.bank(search.bank[first : first + step], search.metric)
        costs = _costs(x, _parts(y), offsets)
        if search.exclude is not None:
            number = torch.arange(first, first + len(y), device=x.device)
            costs = costs.masked_fill(number == search.exclude.unsqueeze(1), torch.inf)
        top = costs.topk(min(count, len(y)), 1, largest=False)
        best, rows = torch.cat([best, top.values], 1), torch.cat([rows, top.indices + first], 1)
        if best.shape[1] > count:
            best, order = best.topk(count, 1, largest=False)
            rows = rows.gather(1, order)
    worst = best.amax(1, keepdim=True).double()
    slack = _slack(columns) * (norm + (1 if search.metric == "l2" else 0))
    # As a score, if the rows are all of the bank: nothing is left out.
    return rows, worst - slack if count < n else torch.full_like(worst, torch.inf)


# Exact scores


def _pair_scores(
    queries: Tensor,  # [Q,1,D] fp64
    bank: Tensor,  # [Q,m,D] or [1,m,D] fp64
    metric: str,
    scaled: bool,
) -> Tensor:  # [Q,m]
    """Each pair summed alike, so that equal rows tie. ``scaled``: squares may be beyond the range of fp64."""
    if metric == "l2":
        apart = bank - queries
        if not scaled:
            return apart.square().sum(-1).sqrt()
        most = apart.abs().amax(-1)
        power = _power(most)
        return (apart * power.unsqueeze(-1)).square().sum(-1).sqrt() / power
    if metric == "dot":
        return (queries * bank).sum(-1) + 0.0
    x, y = queries, bank
    if scaled:
        x, y = (t * _power(t.abs().amax(-1)).unsqueeze(-1) for t in (queries, bank))
    norms = x.square().sum(-1).sqrt() * y.square().sum(-1).sqrt()
    return torch.where(norms > 0, (x * y).sum(-1) / norms, 0.0).clamp(-1, 1) + 0.0


def _power(most: Tensor) -> Tensor:
    """The power of two that brings ``most`` to about 1; 1 for 0."""
    exponent = torch.frexp(torch.where(most > 0, most, 1)).exponent
    return torch.ldexp(torch.ones_like(most), -exponent.clamp(-1000, 1000))


def _even(rows: Tensor) -> Tensor:
    """fp64 rows whose sums take one way wherever they lie in memory: multiples of 32 bytes."""
    return torch.nn.functional.pad(rows.double(), (0, -rows.shape[-1] % 4))


def _blocks(search: Search, count: int) -> Iterator[slice]:
    step = max(1, BLOCK_BYTES // (8 * count * search.bank.shape[1]))
    return (slice(b, b + step) for b in range(0, len(search.queries), step))


def _exact(search: Search, rows: Tensor) -> Tensor:  # [Q,m] int64 -> [Q,m] fp64
    made = [
        _pair_scores(
            _even(search.queries[b]).unsqueeze(1), _even(search.bank[rows[b]]), search.metric, search.scaled
        )
        for b in _blocks(search, rows.shape[1])
    ]
    return torch.cat(made)


def _ranked(search: Search, exact: Tensor, rows: Tensor) -> tuple[Tensor, Tensor]:
    """The k best by the scores that are returned, ties to the lower row; NaN and NO_ROW where excluded."""
    scores = exact.to(accumulate_dtype(search.queries.dtype))
    rows, order = rows.sort(1)
    scores = scores.gather(1, order)
    keys = scores if search.metric == "l2" else -scores
    if search.exclude is not None:
        own = rows == search.exclude.unsqueeze(1)
        # NaN comes last in an ascending sort, after infinity.
        keys, scores = keys.masked_fill(own, torch.nan), scores.masked_fill(own, torch.nan)
        rows = rows.masked_fill(own, NO_ROW)
    order = keys.sort(dim=1, stable=True).indices[:, : search.k]
    return scores.gather(1, order), rows.gather(1, order)


def _all_pairs(search: Search) -> tuple[Tensor, Tensor]:
    """Every pair exactly, blocks of the bank at a time."""
    q, n = len(search.queries), len(search.bank)
    step = max(1, BLOCK_BYTES // max(1, 8 * q * search.bank.shape[1]))
    exact = torch.empty((q, 0), dtype=torch.float64, device=search.bank.device)
    rows = torch.empty((q, 0), dtype=torch.int64, device=search.bank.device)
    queries = _even(search.queries).unsqueeze(1)
    for first in range(0, n, step):
        bank = _even(search.bank[first : first + step]).unsqueeze(0)
        block = _pair_scores(queries, bank, search.metric, search.scaled)
        number = torch.arange(first, first + block.shape[1], device=block.device).expand(q, -1)
        exact, rows = torch.cat([exact, block], 1), torch.cat([rows, number], 1)
        if exact.shape[1] > 4 * search.k + 65536:
            exact, rows = _best(search, exact, rows)
    return _ranked(search, exact, rows)


def exhaustive(search: Search) -> tuple[Tensor, Tensor]:
    """Scores and rows [Q,k] from every pair exactly, 64 queries at a time."""
    scores, rows = zip(*(_all_pairs(search.of(b)) for b in _query_blocks(search, 64)), strict=True)
    return torch.cat(scores), torch.cat(rows)


def _best(search: Search, exact: Tensor, rows: Tensor) -> tuple[Tensor, Tensor]:
    """The k best so far, and one more in place of an excluded row, with exact scores."""
    keys = exact.to(accumulate_dtype(search.queries.dtype))
    keys = keys if search.metric == "l2" else -keys
    if search.exclude is not None:
        keys = keys.masked_fill(rows == search.exclude.unsqueeze(1), torch.nan)
    order = keys.sort(dim=1, stable=True).indices[:, : search.k]
    return exact.gather(1, order), rows.gather(1, order)


def _proved(search: Search, how: _Filter, scores: Tensor, bound: Tensor) -> Tensor:  # [Q] bool
    """Whether every row that is no candidate is worse than the k-th, in the scores' own precision."""
    last = scores[:, -1:].double()
    # Two roundings: that of the score returned, and that of a score that may tie with it.
    round_off = 2.0**-52 if search.queries.dtype == torch.float64 else 2.0**-22
    if search.metric == "cosine":
        cost, spread = -last, round_off * torch.ones_like(last)
    else:
        norm = _unit(how.moved(search.queries))[1]
        least = 2.0**-149 if search.queries.dtype != torch.float64 else 2.0**-1074  # of subnormal scores
        if search.metric == "dot":
            unit = torch.where(norm == 0, 1, norm) * how.scale
            cost = -(last / unit)
            spread = round_off * cost.abs() + least / unit
        else:
            apart, tiny = last / how.scale, least / how.scale
            cost = (apart.square() - (norm / how.scale).square()) / 2
            spread = 2 * round_off * apart.square() + tiny * (apart + tiny)
    spread = spread + 2.0**-45  # rounding of norms and of centred rows
    fine = (cost + spread < bound) & last.isfinite()
    return (fine | (bound == torch.inf)).squeeze(1)


def _by_filter(search: Search, how: _Filter, spare: int) -> tuple[Tensor, Tensor, Tensor]:
    """Scores, rows and whether they are proved."""
    # An excluded row may be among the candidates where the bank has no other.
    count = min(len(search.bank), search.k + spare)
    rows, bound = _candidates(search, how, count)
    scores, rows = _ranked(search, _exact(search, rows), rows)
    return scores, rows, _proved(search, how, scores, bound)


def _search(search: Search) -> tuple[Tensor, Tensor]:
    if capturing(search.bank.device) or search.k + SPARE[0] >= len(search.bank):
        return exhaustive(search)
    how = _Filter.of(search)
    found = [_by_filter(search.of(b), how, SPARE[0]) for b in _query_blocks(search, MOST_QUERIES)]
    scores, rows, proved = (torch.cat(column) for column in zip(*found, strict=True))
    for spare in (*SPARE[1:], None):
        if bool(proved.all()):  # waits
            break
        left = (~proved).nonzero().squeeze(1)
        for block in left.split(64):
            some = search.of(block)
            if spare is None:
                scores[block], rows[block] = _all_pairs(some)
            else:
                scores[block], rows[block], proved[block] = _by_filter(some, how, spare)
    return scores, rows


def _query_blocks(search: Search, most: int) -> Iterator[slice]:
    return (slice(b, b + most) for b in range(0, max(1, len(search.queries)), most))


def nearest_templates(
    queries: Tensor,  # [Q,D]
    bank: Tensor,  # [N,D]
    k: int,
    metric: str,
    exclude: Tensor | None,  # [Q] int64
) -> tuple[Tensor, Tensor]:  # [Q,k], [Q,k] int64
    """See :func:`thfr_ext.nearest_templates`."""
    if len(queries) == 0:
        empty = queries.new_empty((0, k), dtype=accumulate_dtype(queries.dtype))
        return empty, queries.new_empty((0, k), dtype=torch.int64)
    bank, fine = _finite(bank)
    queries, good = _finite(queries)
    good = good & fine.all()
    if exclude is not None:
        good = good & (exclude >= -1) & (exclude < len(bank))
    scores, rows = _search(Search(queries, bank, k, metric, exclude))
    bad = ~good.unsqueeze(1) | (rows == NO_ROW)
    return scores.masked_fill(bad, torch.nan), rows.masked_fill(bad, -1)


def greedy_coreset(bank: Tensor, size: int, seed: int, progress: Progress | None = None) -> Tensor:
    """See :func:`thfr_ext.greedy_coreset`. Reads the bank once for each row that is chosen."""
    rows, fine = _finite(bank)
    power = _power(_magnitude(rows).amax())
    step = max(1, BLOCK_BYTES // (8 * rows.shape[1]))
    chosen = torch.empty(size, dtype=torch.int64, device=bank.device)
    chosen[:1].fill_(first_coreset_index(len(bank), seed))
    nearest = torch.full((len(bank),), torch.inf, dtype=torch.float64, device=bank.device)
    for done in range(1, size):
        newest = chosen[done - 1 : done]
        centre = rows.index_select(0, newest).double() * power
        for first in range(0, len(rows), step):
            some = rows[first : first + step].double() * power
            part = nearest[first : first + step]
            torch.minimum(part, (some - centre).square().sum(1), out=part)
        nearest.index_fill_(0, newest, -1.0)
        chosen[done : done + 1] = nearest.argmax()
        if progress is not None and (done + 1) % 64 == 0:
            chosen[done].item()  # waits
            progress(done + 1, size)
    chosen = torch.where(fine.all(), chosen, -1)
    if progress is not None:
        chosen[-1].item()
        progress(size, size)
    return chosen
