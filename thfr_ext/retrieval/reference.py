"""The retrieval operators, plainly: every pair in fp64, and an error for values that are not finite."""

from __future__ import annotations

from torch import Tensor

from thfr_ext.retrieval import torch_path
from thfr_ext.retrieval.checks import Progress, check_exclude_values, first_coreset_index

__all__ = ["first_coreset_index", "greedy_coreset", "nearest_templates"]


def _require_finite(operator: str, argument: str, rows: Tensor) -> None:
    bad = ~rows.isfinite().all(1)
    if bool(bad.any()):
        row = int(bad.nonzero()[0])
        kind = "NaN" if bool(rows[row].isnan().any()) else "infinity"
        raise ValueError(
            f"{operator}: {argument}: expected finite values, got {kind} in row {row} of {list(rows.shape)}"
        )


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
    return torch_path.exhaustive(torch_path.Search(queries, bank, k, metric, exclude))


def greedy_coreset(
    bank: Tensor,  # [N,D]
    size: int,
    seed: int = 0,
    progress: Progress | None = None,
) -> Tensor:  # [size] int64
    """See :func:`thfr_ext.greedy_coreset`."""
    _require_finite("greedy_coreset", "bank", bank)
    return torch_path.greedy_coreset(bank, size, seed, progress)
