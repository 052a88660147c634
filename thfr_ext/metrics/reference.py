"""Plain PyTorch twins of the operators in ``ops.py``: the formats and methods of
csrc/include/thfr/metrics.h, tensor operations at a time (cells: one cell at a time)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from thfr_ext.sweep.reference import spro_area

#: entries of a block, bytes of its head, what stands for "all counts are 1"
BLOCK, HEAD, ALL_ONES = 256, 16, 255


def to_order(scores: Tensor) -> Tensor:  # [n] -> [n] int64
    """Scores as integers of the same order; -0 is 0."""
    bits = scores.double().view(torch.int64)
    return torch.where(bits < 0, -(bits & torch.iinfo(torch.int64).max), bits)


def to_score(order: Tensor) -> Tensor:  # [n] int64 -> [n] fp64
    minus = torch.iinfo(torch.int64).min
    return torch.where(order < 0, -order | minus, order).view(torch.float64)


def _shift(x: Tensor, bits: Tensor | int) -> Tensor:
    """int64 shifted to the right as unsigned."""
    half = (x >> 1) & torch.iinfo(torch.int64).max
    bits = torch.as_tensor(bits, device=x.device)
    return torch.where(bits == 0, x, half >> (bits - 1).clamp_min(0))


def _bit_length(x: Tensor) -> Tensor:
    """Of int64 in [0, 2^63)."""
    powers = torch.ones((), dtype=torch.int64, device=x.device) << torch.arange(63, device=x.device)
    return torch.searchsorted(powers, x, right=True)


def _rice_bits(sums: Tensor) -> Tensor:
    return (_bit_length(_shift(sums, 8)) - 1).clamp_min(0)


def _to_bytes(words: Tensor, count: int) -> Tensor:
    """The lowest ``count`` bytes of each int64."""
    shifts = 8 * torch.arange(count, device=words.device)
    return ((words.unsqueeze(-1) >> shifts) & 255).to(torch.uint8)


def _from_bytes(data: Tensor) -> Tensor:  # [...,k] uint8 -> [...] int64
    shifts = 8 * torch.arange(data.shape[-1], device=data.device)
    return (data.long() << shifts).sum(-1)


def _starts(sizes: Tensor) -> Tensor:
    return sizes.cumsum(0) - sizes


def _sizes(entries: int, device: torch.device) -> Tensor:
    """Entries of each block."""
    sizes = torch.full((-(-entries // BLOCK),), BLOCK, device=device)
    if entries % BLOCK:
        sizes[-1] = entries % BLOCK
    return sizes


def _set_rice(bits: Tensor, begin: Tensor, unary: Tensor, values: Tensor, valid: Tensor, k: Tensor) -> None:
    """Write values [B,n] into the bits of the run: quotients from ``begin`` [B] on, then the rests."""
    quotients = torch.where(valid, _shift(values, k.unsqueeze(1)), 0)
    place = torch.arange(values.shape[1], device=values.device)
    ones = begin.unsqueeze(1) + quotients.cumsum(1) + place
    bits[ones[valid]] = 1
    for bit in range(int(k.max()) if len(k) else 0):
        here = valid & (bit < k).unsqueeze(1)
        at = (begin + unary).unsqueeze(1) + place * k.unsqueeze(1) + bit
        bits[at[here]] = ((values[here] >> bit) & 1).to(torch.uint8)


def pack(keys: Tensor, counts: Tensor) -> Tensor:  # [d] int64 ascending, [d] int64 -> [bytes] uint8
    """Distinct keys (as of :func:`to_order`) and their counts as packed bytes."""
    device, n = keys.device, len(keys)
    sizes = _sizes(n, device)
    blocks = len(sizes)
    inside = torch.arange(BLOCK, device=device) < sizes.unsqueeze(1)
    filled = torch.zeros((2, blocks * BLOCK), dtype=torch.int64, device=device)
    filled[0, :n], filled[1, :n] = keys, counts
    key, count = filled.view(2, blocks, BLOCK)
    later = inside[:, 1:]
    deltas = torch.where(later, key[:, 1:] - key[:, :-1], 0)
    zeros = torch.where(later & (deltas != 0), _bit_length(_shift(deltas & -deltas, 1)), 64).amin(1)
    shift = torch.where(zeros == 64, 0, zeros)
    deltas = _shift(deltas, shift.unsqueeze(1)) - 1
    last = key.gather(1, (sizes - 1).unsqueeze(1)).squeeze(1)
    k_delta = _rice_bits(_shift(last - key[:, 0], shift) - (sizes - 1))
    more = torch.where(inside, count - 1, 0)
    counted = more.sum(1)
    plain = counted == 0
    k_count = torch.where(plain, 0, _rice_bits(counted))
    unary_delta = (torch.where(later, _shift(deltas, k_delta.unsqueeze(1)) + 1, 0)).sum(1)
    unary_count = torch.where(plain, 0, torch.where(inside, _shift(more, k_count.unsqueeze(1)) + 1, 0).sum(1))
    delta_bits = unary_delta + (sizes - 1) * k_delta
    size = -(-(delta_bits + unary_count + torch.where(plain, 0, sizes * k_count)) // 8)
    bits = torch.zeros(8 * int(size.sum()), dtype=torch.uint8, device=device)
    begin = 8 * _starts(size)
    _set_rice(bits, begin, unary_delta, deltas, later, k_delta)
    _set_rice(bits, begin + delta_bits, unary_count, more, inside & ~plain.unsqueeze(1), k_count)
    payload = (bits.view(-1, 8).long() << torch.arange(8, device=device)).sum(1).to(torch.uint8)
    heads = [
        _to_bytes(key[:, 0], 8),
        _to_bytes(shift, 1),
        _to_bytes(k_delta, 1),
        _to_bytes(torch.where(plain, ALL_ONES, k_count), 1),
        _to_bytes(torch.zeros_like(shift), 1),
        _to_bytes(unary_delta, 2),
        _to_bytes(unary_count, 2),
    ]
    sums = torch.stack([torch.tensor(n, device=device), counts.sum()])
    nothing = torch.zeros(8, dtype=torch.uint8, device=device)
    return torch.cat([_to_bytes(sums, 8).flatten(), torch.cat(heads, 1).flatten(), payload, nothing])


def _get_rice(bits: Tensor, begin: Tensor, unary: Tensor, valid: Tensor, k: Tensor) -> Tensor:
    """Values [B,n] read from the bits of the run."""
    blocks, n = valid.shape
    at = torch.arange(int(unary.max()) if blocks else 0, device=bits.device)
    window = bits[(begin.unsqueeze(1) + at).clamp_max(len(bits) - 1)].bool() & (at < unary.unsqueeze(1))
    ones = torch.zeros((blocks, n), dtype=torch.int64, device=bits.device)
    row, column = window.nonzero(as_tuple=True)
    ones[row, (window.cumsum(1) - 1)[row, column]] = column
    values = torch.diff(ones, dim=1, prepend=ones.new_full((blocks, 1), -1)) - 1 << k.unsqueeze(1)
    place = torch.arange(n, device=bits.device)
    for bit in range(int(k.max()) if blocks else 0):
        here = valid & (bit < k).unsqueeze(1)
        at = (begin + unary).unsqueeze(1) + place * k.unsqueeze(1) + bit
        values[here] |= bits[at[here]].long() << bit
    return values


def unpack(run: Tensor) -> tuple[Tensor, Tensor]:  # [bytes] uint8 -> [d] int64, [d] int64
    """Distinct keys, ascending, and their counts."""
    device, n = run.device, int(_from_bytes(run[:8]))
    sizes = _sizes(n, device)
    blocks = len(sizes)
    heads = run[16 : 16 + HEAD * blocks].view(blocks, HEAD)
    first, unary_delta, unary_count = (_from_bytes(heads[:, a:b]) for a, b in ((0, 8), (12, 14), (14, 16)))
    shift, k_delta, k_count = (heads[:, i].long() for i in (8, 9, 10))
    plain = k_count == ALL_ONES
    k_count = torch.where(plain, 0, k_count)
    inside = torch.arange(BLOCK, device=device) < sizes.unsqueeze(1)
    payload = run[16 + HEAD * blocks :]
    bits = ((payload.unsqueeze(1) >> torch.arange(8, device=device)) & 1).flatten()
    delta_bits = unary_delta + (sizes - 1) * k_delta
    size = -(-(delta_bits + unary_count + torch.where(plain, 0, sizes * k_count)) // 8)
    begin = 8 * _starts(size)
    deltas = _get_rice(bits, begin, unary_delta, inside[:, 1:], k_delta) + 1 << shift.unsqueeze(1)
    steps = torch.nn.functional.pad(torch.where(inside[:, 1:], deltas, 0).cumsum(1), (1, 0))
    counted = inside & ~plain.unsqueeze(1)
    counts = torch.where(counted, _get_rice(bits, begin + delta_bits, unary_count, counted, k_count), 0) + 1
    return (first.unsqueeze(1) + steps)[inside], counts[inside]


def _sum(keys: Tensor, counts: Tensor) -> tuple[Tensor, Tensor]:
    """Distinct keys, ascending, with the sums of their counts."""
    distinct, place = keys.unique(return_inverse=True)
    return distinct, torch.zeros_like(distinct).index_add(0, place, counts)


def _unpack_all(runs: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    keys, counts = zip(*map(unpack, runs), strict=True)
    return _sum(torch.cat(keys), torch.cat(counts))


def pack_scores(scores: Tensor) -> Tensor:  # [n] -> [bytes] uint8
    keys = to_order(scores)
    return pack(*_sum(keys, torch.ones_like(keys)))


def merge_packed(runs: Sequence[Tensor]) -> Tensor:  # [bytes] uint8 each -> [bytes] uint8
    return pack(*_unpack_all(runs))


def packed_area(
    negatives: Sequence[Tensor],  # [bytes] uint8 each
    scores: Tensor,  # [p]
    offsets: Tensor,  # [R+1] int64
    saturations: Tensor,  # [R] int64
    limits: Sequence[float],
) -> Tensor:  # [L] fp64
    keys, counts = _unpack_all(negatives)
    if len(keys) == 0:
        raise ValueError("packed_area: negatives: expected at least one score, got none")
    return spro_area(to_score(keys).repeat_interleave(counts), scores.double(), offsets, saturations, limits)


def packed_auroc(negatives: Sequence[Tensor], positives: Sequence[Tensor]) -> Tensor:  # [] fp64
    (below, n), (above, p) = _unpack_all(negatives), _unpack_all(positives)
    ranks = torch.nn.functional.pad(n.cumsum(0), (1, 0))
    twice = ranks[torch.searchsorted(below, above)] + ranks[torch.searchsorted(below, above, right=True)]
    return (twice * p).sum().double() / (2.0 * int(n.sum()) * int(p.sum()) or torch.nan)


class _Joiner:
    """See ``Joiner`` in csrc/metrics/cpu/cells.cpp."""

    LAYERS = 8

    def __init__(self, most: int, share: float, relative: bool, total: int) -> None:
        self.most, self.share, self.relative, self.total = most, share, relative, total
        self.clear()

    def clear(self) -> None:
        self.above = 0
        self.cells: list[list[int]] = []  # hi, lo, weight
        self.layers: list[tuple[list[int], float, float]] = []  # lowest cell, caps of neighbours and overlaps

    def push(self, cell: list[int]) -> None:
        self.place(cell)
        if len(self.cells) > self.most:
            self.shrink()

    def place(self, cell: list[int]) -> None:
        into = self.find(cell)
        if isinstance(into, list):
            into[1] = min(into[1], cell[1])
            into[2] += cell[2]
        else:
            cap = self.share * (self.above if self.relative else self.total)
            self.cells.append(list(cell))
            self.layers[into : into + 1] = [(self.cells[-1], cap / 2**into, 2 * cap)]
        self.above += cell[2]

    def find(self, cell: list[int]) -> list[int] | int:
        """The cell to join ``cell`` to, or the layer in which it is the next."""
        hi, lo, weight = cell
        for i, (last, join, cap) in enumerate(self.layers):
            apart, same = hi < last[1], hi == last[1] and lo == last[0]
            if same or last[2] + weight <= (join if apart else cap):
                return last
            if apart:
                return i
        if len(self.layers) < self.LAYERS:
            return len(self.layers)
        lows = [last for last, _, _ in self.layers]
        around = [last for last in lows if last[1] <= lo]
        return max(around, key=lambda c: c[1]) if around else min(lows, key=lambda c: c[1])

    def shrink(self) -> None:
        while len(self.cells) > self.most - self.most // 4:
            self.share = max(1.5 * self.share, 1 / self.most)
            cells = self.cells
            self.clear()
            for cell in cells:
                self.place(cell)


def merge_cells(
    sketches: Sequence[Tensor],  # [3,n] int64 each
    scores: Tensor,  # [n]
    most: int,
    share: float,
    relative: bool,
) -> tuple[Tensor, float]:  # [3,m] int64
    keys, counts = to_order(scores).unique(return_counts=True)
    cells = [tuple(c) for c in torch.cat([*sketches, torch.stack([keys, keys, counts])], 1).T.tolist()]
    cells.sort(key=lambda cell: (-cell[0], -cell[1]))
    joined: list[list[int]] = []
    for cell in cells:
        if joined and joined[-1][:2] == list(cell[:2]):
            joined[-1][2] += cell[2]
        else:
            joined.append(list(cell))
    joiner = _Joiner(most, share, relative, sum(cell[2] for cell in joined))
    for entry in joined:
        joiner.push(entry)
    rows = torch.tensor(joiner.cells, dtype=torch.int64, device=scores.device)
    return rows.reshape(-1, 3).T.contiguous(), joiner.share


def cells_area(
    negatives: Tensor,  # [3,n] int64
    positives: Tensor,  # [3,p] int64
    total: float,
    limits: Sequence[float],
) -> Tensor:  # [2,L] fp64
    rows = []
    for end in (0, 1):  # negatives at their highest and positives at their lowest, and the opposite
        keys, counts = _sum(negatives[end], negatives[2])
        ranks = torch.nn.functional.pad(counts.cumsum(0), (1, 0))
        at, weights = positives[1 - end], positives[2].double()
        above = (ranks[-1] - ranks[torch.searchsorted(keys, at, right=True)]).double()
        equal = (ranks[-1] - ranks[torch.searchsorted(keys, at)]).double() - above
        for limit in limits:
            kept = limit * ranks[-1].double()
            cut = (kept - above).clamp_min(0).square() / (2 * equal).clamp_min(1)
            step = torch.where(above + equal <= kept, kept - above - equal / 2, cut)
            rows.append((weights * step).sum() / kept / total)
    return torch.stack(rows).view(2, len(limits))
