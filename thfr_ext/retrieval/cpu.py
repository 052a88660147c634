"""The retrieval operators on the CPU: allocation and calls of the native module."""

from __future__ import annotations

import torch
from torch import Tensor

from thfr_ext import _C
from thfr_ext.core.tensors import view
from thfr_ext.retrieval.checks import (
    METRICS,
    Progress,
    check_exclude_values,
    empty_result,
    first_coreset_index,
)

#: Differences in one native call of greedy_coreset: about a tenth of a second to the next Ctrl-C or progress.
_CORESET_CHUNK = 2_000_000_000


def nearest_templates(
    queries: Tensor, bank: Tensor, k: int, metric: str, exclude: Tensor | None
) -> tuple[Tensor, Tensor]:
    if exclude is not None:
        check_exclude_values(bank, k, exclude)
        exclude = exclude.contiguous()
    scores, indices = empty_result(queries, k)
    _C.nearest_templates(
        view(queries),
        view(bank),
        k,
        METRICS[metric],
        None if exclude is None else view(exclude),
        view(scores),
        view(indices),
        torch.get_num_threads(),
    )
    return scores, indices


def greedy_coreset(bank: Tensor, size: int, seed: int, progress: Progress | None = None) -> Tensor:
    threads = torch.get_num_threads()
    scale = _C.coreset_scale(view(bank), threads)
    chosen = torch.empty(size, dtype=torch.int64)
    chosen[0] = first_coreset_index(bank.shape[0], seed)
    distances = torch.full((bank.shape[0],), float("inf"), dtype=torch.float64)
    steps = max(1, min(size, _CORESET_CHUNK // bank.numel()))
    # Back in Python after each chunk, where Ctrl-C is heard.
    for begin in range(0, size, steps):
        end = min(begin + steps, size)
        _C.greedy_coreset(view(bank), scale, view(distances), view(chosen), begin, end, threads)
        if progress is not None:
            progress(end, size)
    return chosen
