"""Plain PyTorch twins of the retrieval operators: the specification in code."""

from __future__ import annotations

import torch
from torch import Tensor

from thfr_ext.core.tensors import accumulate_dtype
from thfr_ext.retrieval.checks import Progress, check_exclude_values


def _require_finite(operator: str, argument: str, rows: Tensor) -> None:
    bad = ~rows.isfinite().all(1)
    if bool(bad.any()):
        row = int(bad.nonzero()[0])
        kind = "NaN" if bool(rows[row].isnan().any()) else "infinity"
        raise ValueError(
            f"{operator}: {argument}: expected finite values, got {kind} in row {row} of {list(rows.shape)}"
        )


def _pair_scores(queries: Tensor, bank: Tensor, metric: str) -> Tensor:
    """Scores of fp64 rows [Q,D] and [N,D]: each pair summed alike, so that equal rows tie."""
    if metric == "l2":
        return torch.cdist(queries, bank, compute_mode="donot_use_mm_for_euclid_dist")
    dots = (queries[:, None] * bank[None]).sum(-1)
    if metric == "dot":
        return dots + 0.0
    norms = queries.square().sum(1).sqrt()[:, None] * bank.square().sum(1).sqrt()
    return torch.where(norms > 0, dots / norms, 0.0).clamp(-1, 1) + 0.0


def nearest_templates(
    queries: Tensor,  # [Q,D]
    bank: Tensor,  # [N,D]
    k: int = 1,
    metric: str = "cosine",
    exclude: Tensor | None = None,  # [Q] int64
) -> tuple[Tensor, Tensor]:  # [Q,k], [Q,k] int64
    """See :func:`thfr_ext.nearest_templates`."""
    if exclude is not None:
        check_exclude_values(bank, k, exclude)
    _require_finite("nearest_templates", "queries", queries)
    _require_finite("nearest_templates", "bank", bank)
    dtype, descending = accumulate_dtype(queries.dtype), metric != "l2"
    count = queries.shape[0]
    scores = queries.new_empty((count, 0), dtype=dtype)
    indices = queries.new_empty((count, 0), dtype=torch.int64)
    step = max(1, 2**24 // max(1, count * queries.shape[1]))
    for start in range(0, bank.shape[0], step):
        part = _pair_scores(queries.double(), bank[start : start + step].double(), metric).to(dtype)
        rows = torch.arange(start, start + part.shape[1], device=part.device).expand(count, -1)
        if exclude is not None:
            part = part.masked_fill(rows == exclude[:, None], float("nan"))
        scores, indices = torch.cat([scores, part], 1), torch.cat([indices, rows], 1)
        # Stable: earlier rows come first among equals. Excluded rows go to the end whatever the scores.
        order = scores.sort(dim=1, descending=descending, stable=True).indices
        order = order.gather(1, scores.gather(1, order).isnan().sort(dim=1, stable=True).indices)[:, :k]
        scores, indices = scores.gather(1, order), indices.gather(1, order)
    return scores, indices


def first_coreset_index(rows: int, seed: int) -> int:
    """``splitmix64(seed) mod rows``: the first step of the generator of Steele, Lea and Flood (2014)."""
    word = 2**64 - 1
    z = (seed + 0x9E3779B97F4A7C15) & word
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & word
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & word
    return (z ^ (z >> 31)) % rows


def greedy_coreset(
    bank: Tensor,  # [N,D]
    size: int,
    seed: int = 0,
    progress: Progress | None = None,
) -> Tensor:  # [size] int64
    """See :func:`thfr_ext.greedy_coreset`."""
    _require_finite("greedy_coreset", "bank", bank)
    rows = bank.double()
    newest = torch.tensor(first_coreset_index(bank.shape[0], seed), device=bank.device)
    nearest = rows.new_full((bank.shape[0],), float("inf"))
    chosen = [newest]
    for done in range(1, size):
        nearest = torch.minimum(nearest, (rows - rows[newest]).square().sum(1))
        nearest[newest] = -1.0
        newest = nearest.argmax()
        chosen.append(newest)
        if progress is not None and (done + 1) % 64 == 0:
            progress(done + 1, size)
    if progress is not None:
        progress(size, size)
    return torch.stack(chosen)
