"""The retrieval operators: schema, kernels and fake kernels of each."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from thfr_ext.core.registration import register
from thfr_ext.retrieval import cpu, cuda, reference, torch_path
from thfr_ext.retrieval.checks import check_coreset, check_nearest, empty_result

_PATHS = {"cpu": cpu, "torch_path": torch_path, "cuda": cuda, "reference": reference}


def _nearest_fake(queries: Tensor, bank: Tensor, k: int, *options: Any) -> tuple[Tensor, Tensor]:
    return empty_result(queries, k)


nearest_templates = register(
    "nearest_templates",
    "(Tensor queries, Tensor bank, SymInt k, str metric, Tensor? exclude) -> (Tensor, Tensor)",
    check=check_nearest,
    fake=_nearest_fake,
    **_PATHS,
)

greedy_coreset = register(
    "greedy_coreset",
    "(Tensor bank, SymInt size, int seed) -> Tensor",
    check=check_coreset,
    fake=lambda bank, size, seed: bank.new_empty((size,), dtype=torch.int64),
    **_PATHS,
)
