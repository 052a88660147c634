"""Codes of one byte a value, and an exact search with them.

A row x is kept as ``scale * code + error``; the norm of each row's error is kept, too. Whatever the query q,
its score with the code lies within a bound of its score with the row:

    l2:      | |q - x| - |q - scale code| |  <=  |error|
    dot:     | q x - q scale code |          <=  |q| |error|
    cosine:  as dot, with the row's direction in place of the row, and q of norm 1

So a row whose score by its code is worse than the k-th best one by more than both bounds is none of the k
best. All others are candidates, whose rows are read and scored: the result is the exact one.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

import thfr_ext
from thfr.banks.files import Metric

_CHUNK = 1 << 24  # values of codes turned into fp32 at a time
_ROUNDING = 1e-5  # of fp32 scores, relative to the norms in them


def quantised(
    rows: Tensor,  # fp16 [n,D]
    metric: Metric,
) -> dict[str, Tensor]:
    """``codes`` int8 [n,D]; ``scales``, ``errors`` and ``norms`` (of ``scale * code``) fp32 [n]."""
    values = _values(rows, metric)
    scales = values.abs().amax(1).clamp_min(torch.finfo(torch.float32).tiny) / 127
    codes = (values / scales[:, None]).round().clamp(-127, 127)
    near = codes * scales[:, None]
    errors = (values - near).double().norm(dim=1) * (1 + _ROUNDING)
    return {
        "codes": codes.to(torch.int8),
        "scales": scales,
        "errors": errors.float(),
        "norms": near.norm(dim=1),
    }


def nearest_of_codes(
    queries: Tensor,  # fp32 [Q,D]
    tensors: dict[str, Tensor],
    k: int,
    metric: Metric,
) -> tuple[Tensor, Tensor]:
    """The k best rows of a shard, to the bit those of :func:`thfr_ext.nearest_templates`."""
    low, high = bounds(_values(queries, metric), tensors, metric)
    kth = high.kthvalue(k, dim=1, keepdim=True).values
    candidate = low <= kth  # every row that may be among the k best
    best_scores = torch.empty((len(queries), k), dtype=torch.float32)
    best = torch.empty((len(queries), k), dtype=torch.int64)
    for number in range(len(queries)):
        chosen = candidate[number].nonzero()[:, 0]
        found: Any = thfr_ext.nearest_templates(
            queries[number : number + 1], tensors["rows"][chosen], k, metric
        )
        best_scores[number], best[number] = found[0][0], chosen[found[1][0]]
    return best_scores, best


def bounds(
    queries: Tensor,  # fp32 [Q,D]; of norm 1 for cosine
    tensors: dict[str, Tensor],
    metric: Metric,
) -> tuple[Tensor, Tensor]:  # fp32 [Q,n]
    """Each row's cost (a distance, or a similarity with its sign turned) from below and from above."""
    codes, scales, errors, sizes = (tensors[name] for name in ("codes", "scales", "errors", "norms"))
    products = torch.empty((len(queries), len(codes)))
    step = max(1, _CHUNK // codes.shape[1])
    for begin in range(0, len(codes), step):
        part = slice(begin, begin + step)
        torch.mm(queries, codes[part].float().T, out=products[:, part])
    products *= scales
    norms = queries.norm(dim=1, keepdim=True)
    if metric != "l2":
        slack = norms * (errors + _ROUNDING * (sizes + errors))
        return -products - slack, -products + slack
    squares = (norms.square() + sizes.square()).sub_(products, alpha=2).clamp_(min=0)
    wrong = _ROUNDING * (norms + sizes).square()  # of the squares
    distances = squares.sqrt_()
    slack = errors + wrong / torch.maximum(distances, wrong.sqrt())
    return distances - slack, distances + slack


def _values(rows: Tensor, metric: Metric) -> Tensor:
    values = rows.float()
    return torch.nn.functional.normalize(values, dim=1) if metric == "cosine" else values
