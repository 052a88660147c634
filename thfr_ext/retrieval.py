"""Template retrieval: exact k nearest rows of a bank, and k-centre greedy sub-sampling of one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from thfr_ext import _C, reference
from thfr_ext._library import register
from thfr_ext._tensor import (
    accumulate_dtype,
    as_tensor,
    describe,
    require_float,
    require_shape,
    restorer,
    view,
)

#: metric -> code of ``thfr::Metric`` (csrc/include/thfr/retrieval.h)
METRICS = {"cosine": 0, "l2": 1, "dot": 2}

#: Called with (entries chosen so far, entries to choose).
Progress = Callable[[int, int], object]

#: Differences in one native call of greedy_coreset: about a tenth of a second to the next Ctrl-C or progress.
_CORESET_CHUNK = 2_000_000_000


def _integer(operator: str, argument: str, value: Any) -> Any:
    if isinstance(value, bool) or not isinstance(value, (int, np.integer, torch.SymInt)):
        raise TypeError(f"{operator}: {argument}: expected an integer, got {value!r}")
    return int(value) if isinstance(value, np.integer) else value


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


def _check_exclude_values(bank: Tensor, k: int, exclude: Tensor) -> None:
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


def _check_nearest(queries: Tensor, bank: Tensor, k: int, metric: str, exclude: Tensor | None) -> None:
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
    if not isinstance(metric, str) or metric not in METRICS:
        raise ValueError(f"nearest_templates: metric: expected one of {', '.join(METRICS)}, got {metric!r}")
    if bank.shape[0] == 0:
        raise ValueError(f"nearest_templates: bank: expected [N,D] with N >= 1, got {describe(bank)}")
    if k < 1 or k > bank.shape[0]:
        raise ValueError(
            f"nearest_templates: k: expected 1 to the {bank.shape[0]} rows of bank ({describe(bank)}), "
            f"got {k}"
        )
    if exclude is not None:
        _check_exclude(queries, bank, k, exclude)


def _empty_result(queries: Tensor, k: int) -> tuple[Tensor, Tensor]:
    shape = (queries.shape[0], k)
    return queries.new_empty(shape, dtype=accumulate_dtype(queries.dtype)), queries.new_empty(
        shape, dtype=torch.int64
    )


def _nearest_cpu(
    queries: Tensor, bank: Tensor, k: int, metric: str, exclude: Tensor | None
) -> tuple[Tensor, Tensor]:
    _check_nearest(queries, bank, k, metric, exclude)
    if exclude is not None:
        _check_exclude_values(bank, k, exclude)
        exclude = exclude.contiguous()
    scores, indices = _empty_result(queries, k)
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


def _nearest_reference(
    queries: Tensor, bank: Tensor, k: int, metric: str, exclude: Tensor | None
) -> tuple[Tensor, Tensor]:
    _check_nearest(queries, bank, k, metric, exclude)
    if exclude is not None:
        _check_exclude_values(bank, k, exclude)
    return reference.nearest_templates(queries, bank, k, metric, exclude)


def _nearest_fake(
    queries: Tensor, bank: Tensor, k: int, metric: str, exclude: Tensor | None
) -> tuple[Tensor, Tensor]:
    _check_nearest(queries, bank, k, metric, exclude)
    return _empty_result(queries, k)


register(
    "nearest_templates",
    "(Tensor queries, Tensor bank, SymInt k, str metric, Tensor? exclude) -> (Tensor, Tensor)",
    cpu=_nearest_cpu,
    cuda_reference=_nearest_reference,
    fake=_nearest_fake,
)


def nearest_templates(
    queries: Any,  # [Q,D]
    bank: Any,  # [N,D]
    k: int = 1,
    metric: str = "cosine",
    exclude: Any | None = None,  # [Q] int64
) -> tuple[Any, Any]:  # [Q,k], [Q,k] int64
    """The k best rows of a bank for each query, exactly, best first. Never holds Q x N numbers.

    A score depends on the two rows alone: its sum over D is kept in fp64 and rounded once, so rows that are
    equal tie to the bit wherever they lie. Ties go to the lower index; the order is that of the scores
    returned. The result is the same for every number of threads. Not differentiable.

    Args:
        queries: fp32, fp64, fp16 or bf16, any strides. A copy is packed, 64 MiB at a time.
        bank: the same dtype and device, any strides, read in place; an fp16 or bf16 bank also goes with
            fp32 queries.
        k: 1 to N (to N - 1 where ``exclude`` takes a row).
        metric: ``cosine`` (similarity; 0 with a zero vector, clipped to [-1, 1]) or ``dot``, largest first;
            ``l2``, the Euclidean distance, smallest first.
        exclude: for each query the bank row that it must not return, or -1.

    Returns:
        Scores, fp32 (fp64 for fp64 queries; one beyond that range becomes infinite), and indices into the
        bank, of the same kind of array as ``queries``. No queries: empty results.

    Raises:
        ValueError: shapes, devices, ``k``, ``metric`` or ``exclude`` do not fit; a value is NaN or infinite.
        TypeError: a dtype is not one of those above, or ``k`` is not an integer.
    """
    name = "nearest_templates"
    q, b = as_tensor(name, "queries", queries), as_tensor(name, "bank", bank)
    e = None if exclude is None else as_tensor(name, "exclude", exclude)
    _check_nearest(q, b, k := _integer(name, "k", k), metric, e)
    scores, indices = torch.ops.thfr_ext.nearest_templates(q.detach(), b.detach(), k, metric, e)
    restore = restorer(queries)
    return restore(scores), restore(indices)


def _check_coreset(bank: Tensor, size: int, seed: int) -> None:
    _require_matrix("greedy_coreset", "bank", bank, "[N,D]")
    if size < 1 or size > bank.shape[0]:
        raise ValueError(
            f"greedy_coreset: size: expected 1 to the {bank.shape[0]} rows of bank ({describe(bank)}), "
            f"got {size}"
        )
    if not 0 <= seed < 2**63:
        raise ValueError(f"greedy_coreset: seed: expected 0 to 2**63 - 1, got {seed}")


def _coreset_cpu(bank: Tensor, size: int, seed: int, progress: Progress | None = None) -> Tensor:
    _check_coreset(bank, size, seed)
    threads = torch.get_num_threads()
    scale = _C.coreset_scale(view(bank), threads)
    chosen = torch.empty(size, dtype=torch.int64)
    chosen[0] = reference.first_coreset_index(bank.shape[0], seed)
    distances = torch.full((bank.shape[0],), float("inf"), dtype=torch.float64)
    steps = max(1, min(size, _CORESET_CHUNK // bank.numel()))
    # Back in Python after each chunk, where Ctrl-C is heard.
    for begin in range(0, size, steps):
        end = min(begin + steps, size)
        _C.greedy_coreset(view(bank), scale, view(distances), view(chosen), begin, end, threads)
        if progress is not None:
            progress(end, size)
    return chosen


def _coreset_reference(bank: Tensor, size: int, seed: int, progress: Progress | None = None) -> Tensor:
    _check_coreset(bank, size, seed)
    return reference.greedy_coreset(bank, size, seed, progress)


def _coreset_fake(bank: Tensor, size: int, seed: int) -> Tensor:
    _check_coreset(bank, size, seed)
    return bank.new_empty((size,), dtype=torch.int64)


register(
    "greedy_coreset",
    "(Tensor bank, SymInt size, int seed) -> Tensor",
    cpu=_coreset_cpu,
    cuda_reference=_coreset_reference,
    fake=_coreset_fake,
)


def greedy_coreset(
    bank: Any,  # [N,D]
    size: int,
    seed: int = 0,
    progress: Progress | None = None,
) -> Any:  # [size] int64
    """k-centre greedy: rows that leave no other row of the bank far from them.

    Sener and Savarese (2018), as PatchCore uses it. The first row is ``splitmix64(seed) mod N``; each next
    one is the row whose Euclidean distance to the nearest chosen row is largest, the lowest index on a tie.
    No row is chosen twice, equal rows or not. Distances are compared in fp64; the result is the same for
    every number of threads, and a shorter run's is the beginning of a longer one's.

    Args:
        bank: fp32, fp64, fp16 or bf16, any strides (read in place).
        size: 1 to N.
        seed: 0 to 2**63 - 1.
        progress: called as ``progress(done, size)`` now and then, and at the end. Not under torch.compile.

    Returns:
        Indices of the rows in the order they were chosen, int64, of the same kind of array as ``bank``.

    Raises:
        ValueError: shape, ``size`` or ``seed`` do not fit, or a value is NaN or infinite.
        TypeError: ``bank`` is not of a float dtype, or a number is not an integer.
    """
    b = as_tensor("greedy_coreset", "bank", bank).detach()
    size, seed = (_integer("greedy_coreset", *given) for given in (("size", size), ("seed", seed)))
    _check_coreset(b, size, seed)
    if progress is None:
        chosen = torch.ops.thfr_ext.greedy_coreset(b, size, seed)
    else:
        chosen = (_coreset_cpu if b.device.type == "cpu" else _coreset_reference)(b, size, seed, progress)
    return restorer(bank)(chosen)


__all__ = ["METRICS", "greedy_coreset", "nearest_templates"]
