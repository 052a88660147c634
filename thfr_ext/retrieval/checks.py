"""What the retrieval operators check on every device, the results they allocate, and how a coreset begins."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from thfr_ext.core.tensors import accumulate_dtype, describe, require_float, require_shape

#: metric -> code of ``thfr::Metric`` (csrc/include/thfr/retrieval.h)
METRICS = {"cosine": 0, "l2": 1, "dot": 2}

#: Called with (entries chosen so far, entries to choose).
Progress = Callable[[int, int], object]


def integer(operator: str, argument: str, value: Any) -> Any:
    if isinstance(value, bool) or not isinstance(value, (int, np.integer, torch.SymInt)):
        raise TypeError(f"{operator}: {argument}: expected an integer, got {value!r}")
    return int(value) if isinstance(value, np.integer) else value


def fits_int64(value: Any) -> bool:
    """Whether torch takes an integer at all, or refuses it in its own words."""
    return not isinstance(value, int) or -(2**63) <= value < 2**63


def check_metric(operator: str, metric: Any) -> None:
    if not isinstance(metric, str) or metric not in METRICS:
        raise ValueError(f"{operator}: metric: expected one of {', '.join(METRICS)}, got {metric!r}")


def _require_matrix(operator: str, argument: str, tensor: Tensor, expected: str) -> None:
    require_shape(operator, argument, tensor, expected, dims=2)
    require_float(operator, argument, tensor)
    if tensor.shape[1] == 0:
        raise ValueError(f"{operator}: {argument}: expected {expected} with D >= 1, got {describe(tensor)}")


def _check_exclude(queries: Tensor, bank: Tensor, k: int, exclude: Tensor) -> None:
    name = "nearest_templates: exclude"
    if exclude.dim() != 1 or exclude.shape[0] != queries.shape[0]:
        raise ValueError(
            f"{name}: expected one bank row (or -1) a query, [{queries.shape[0]}], got {describe(exclude)}"
        )
    if exclude.dtype != torch.int64:
        raise TypeError(f"{name}: expected int64, got {describe(exclude)}")
    if exclude.device != queries.device:
        raise ValueError(f"{name}: expected device {queries.device}, got {describe(exclude)}")


def check_exclude_values(bank: Tensor, k: int, exclude: Tensor) -> None:
    if exclude.numel() == 0:
        return
    rows, low, high = bank.shape[0], int(exclude.min()), int(exclude.max())
    if low < -1 or high >= rows:
        raise ValueError(
            f"nearest_templates: exclude: expected -1 or a row of the bank, 0 to {rows - 1}, "
            f"got {low if low < -1 else high}"
        )
    if high >= 0 and k > rows - 1:
        raise ValueError(
            f"nearest_templates: k: expected 1 to {rows - 1}, as exclude takes one of {rows} rows, got {k}"
        )


def check_nearest(queries: Tensor, bank: Tensor, k: int, metric: str, exclude: Tensor | None) -> None:
    _require_matrix("nearest_templates", "queries", queries, "[Q,D]")
    _require_matrix("nearest_templates", "bank", bank, "[N,D]")
    if bank.shape[1] != queries.shape[1] or bank.device != queries.device:
        raise ValueError(
            f"nearest_templates: bank: expected [N,{queries.shape[1]}] on {queries.device}, "
            f"got {describe(bank)}"
        )
    half_bank = queries.dtype == torch.float32 and bank.dtype in (torch.float16, torch.bfloat16)
    if bank.dtype != queries.dtype and not half_bank:
        raise TypeError(
            "nearest_templates: bank: expected the dtype of queries (or float16 or bfloat16 for float32 "
            f"queries), got {describe(bank)} for {describe(queries)}"
        )
    check_metric("nearest_templates", metric)
    if bank.shape[0] == 0:
        raise ValueError(f"nearest_templates: bank: expected [N,D] with N >= 1, got {describe(bank)}")
    if k < 1 or k > bank.shape[0]:
        raise ValueError(
            f"nearest_templates: k: expected 1 to the {bank.shape[0]} rows of bank ({describe(bank)}), "
            f"got {k}"
        )
    if exclude is not None:
        _check_exclude(queries, bank, k, exclude)


def check_merge(scores: Tensor, indices: Tensor, k: int, metric: str) -> None:
    require_shape("merge_nearest", "scores", scores, "[S,Q,K]", dims=3)
    require_float("merge_nearest", "scores", scores)
    if indices.shape != scores.shape or indices.device != scores.device:
        raise ValueError(
            f"merge_nearest: indices: expected shape and device of scores ({describe(scores)}), "
            f"got {describe(indices)}"
        )
    if indices.dtype != torch.int64:
        raise TypeError(f"merge_nearest: indices: expected int64, got {describe(indices)}")
    check_metric("merge_nearest", metric)
    most = scores.shape[0] * scores.shape[2]
    if not 1 <= k <= most:
        raise ValueError(
            f"merge_nearest: k: expected 1 to the {most} results a query of scores ({describe(scores)}), "
            f"got {k}"
        )


def empty_result(queries: Tensor, k: int) -> tuple[Tensor, Tensor]:
    shape = (queries.shape[0], k)
    return queries.new_empty(shape, dtype=accumulate_dtype(queries.dtype)), queries.new_empty(
        shape, dtype=torch.int64
    )


def check_coreset(bank: Tensor, size: int, seed: int) -> None:
    _require_matrix("greedy_coreset", "bank", bank, "[N,D]")
    if size < 1 or size > bank.shape[0]:
        raise ValueError(
            f"greedy_coreset: size: expected 1 to the {bank.shape[0]} rows of bank ({describe(bank)}), "
            f"got {size}"
        )
    if not 0 <= seed < 2**63:
        raise ValueError(f"greedy_coreset: seed: expected 0 to 2**63 - 1, got {seed}")


def first_coreset_index(rows: int, seed: int) -> int:
    """``splitmix64(seed) mod rows``: the first step of the generator of Steele, Lea and Flood (2014)."""
    word = 2**64 - 1
    z = (seed + 0x9E3779B97F4A7C15) & word
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & word
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & word
    return (z ^ (z >> 31)) % rows
