"""The retrieval operators: schema, kernels and fake kernels of each."""

from __future__ import annotations

import torch
from torch import Tensor

from thfr_ext.core.registration import register
from thfr_ext.retrieval import cpu, cuda, reference
from thfr_ext.retrieval.checks import (
    Progress,
    check_coreset,
    check_exclude_values,
    check_nearest,
    empty_result,
)


def _nearest_reference(
    queries: Tensor, bank: Tensor, k: int, metric: str, exclude: Tensor | None
) -> tuple[Tensor, Tensor]:
    check_nearest(queries, bank, k, metric, exclude)
    if exclude is not None:
        check_exclude_values(bank, k, exclude)
    return reference.nearest_templates(queries, bank, k, metric, exclude)


def _nearest_fake(
    queries: Tensor, bank: Tensor, k: int, metric: str, exclude: Tensor | None
) -> tuple[Tensor, Tensor]:
    check_nearest(queries, bank, k, metric, exclude)
    return empty_result(queries, k)


register(
    "nearest_templates",
    "(Tensor queries, Tensor bank, SymInt k, str metric, Tensor? exclude) -> (Tensor, Tensor)",
    cpu=cpu.nearest_templates,
    cuda_reference=_nearest_reference,
    fake=_nearest_fake,
    cuda_native=cuda.nearest_templates,
)


def _coreset_reference(bank: Tensor, size: int, seed: int, progress: Progress | None = None) -> Tensor:
    check_coreset(bank, size, seed)
    return reference.greedy_coreset(bank, size, seed, progress)


def _coreset_fake(bank: Tensor, size: int, seed: int) -> Tensor:
    check_coreset(bank, size, seed)
    return bank.new_empty((size,), dtype=torch.int64)


register(
    "greedy_coreset",
    "(Tensor bank, SymInt size, int seed) -> Tensor",
    cpu=cpu.greedy_coreset,
    cuda_reference=_coreset_reference,
    fake=_coreset_fake,
    cuda_native=cuda.greedy_coreset,
)
