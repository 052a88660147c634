"""The public functions of template retrieval."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from thfr_ext.core import backends
from thfr_ext.core.tensors import as_tensor, restorer
from thfr_ext.retrieval import cpu, cuda, ops, torch_path
from thfr_ext.retrieval.checks import (
    Progress,
    check_coreset,
    check_merge,
    check_metric,
    check_nearest,
    fits_int64,
    integer,
)


def _as_operand(name: str, argument: str, value: Any) -> Tensor:
    tensor = as_tensor(name, argument, value)
    return tensor.detach() if tensor.requires_grad else tensor


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

    The CUDA kernels do not wait for values, so they refuse none: a query that is not finite, whose
    ``exclude`` is no row, or that ``exclude`` leaves fewer than ``k`` rows gets NaN and index -1 where there
    is no result, and so do all queries if a row of the bank is not finite.

    Args:
        queries: fp32, fp64, fp16 or bf16, any strides. A copy is packed, 64 MiB at a time.
        bank: the same dtype and device, any strides, read in place (on CUDA with more than 8 queries packed,
            64 MiB at a time, unless both are of one half precision with rows of aligned 16-byte pieces); an
            fp16 or bf16 bank also goes with fp32 queries.
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
    q, b = _as_operand(name, "queries", queries), _as_operand(name, "bank", bank)
    e = None if exclude is None else as_tensor(name, "exclude", exclude)
    k = integer(name, "k", k)
    if not fits_int64(k):
        check_nearest(q, b, k, metric, e)
    check_metric(name, metric)
    scores, indices = ops.nearest_templates(q, b, k, metric, e)
    restore = restorer(queries)
    return restore(scores), restore(indices)


def merge_nearest(
    scores: Any,  # [S,Q,K]
    indices: Any,  # [S,Q,K] int64
    k: int,
    metric: str = "cosine",
) -> tuple[Any, Any]:  # [Q,k], [Q,k] int64
    """The k best of S results of :func:`nearest_templates`, as if the S banks were one.

    For a bank in shards, on several devices or read piece by piece. Equal to one search of the whole bank, to
    the bit and with the same order among ties, if the shards are disjoint, each result holds the k best of
    its shard (or all of its rows), and ``indices`` count rows of the whole bank.

    Args:
        scores: the shards' scores, fp32, fp64, fp16 or bf16, any strides.
        indices: the shards' indices plus each shard's first row, the same shape and device. A negative one
            is no result, whatever its score: what pads the lists of a shard of fewer rows.
        k: 1 to S * K.
        metric: that of the search: ``cosine`` or ``dot``, largest first; ``l2``, smallest first.

    Returns:
        Scores, of the dtype of ``scores``, and indices, of the same kind of array as ``scores``; NaN and -1
        where a query has fewer than ``k`` results.

    Raises:
        ValueError: shapes, devices, ``k`` or ``metric`` do not fit; the score of a result is NaN.
        TypeError: scores are not of a float dtype, indices not int64, or ``k`` is not an integer.
    """
    name = "merge_nearest"
    s, i = _as_operand(name, "scores", scores), as_tensor(name, "indices", indices)
    check_merge(s, i, k := integer(name, "k", k), metric)
    s, i = (t.permute(1, 0, 2).flatten(1) for t in (s, i))  # [Q,S*K]
    absent = i < 0
    if bool((s.isnan() & ~absent).any()):
        raise ValueError(f"{name}: scores: expected numbers where indices are at least 0, got NaN")
    # By index, what is absent last; then by score, stably, so that ties keep that order.
    order = i.masked_fill(absent, torch.iinfo(torch.int64).max).sort(dim=1, stable=True).indices
    s = s.masked_fill(absent, torch.inf if metric == "l2" else -torch.inf).gather(1, order)
    by_score = s.sort(dim=1, stable=True, descending=metric != "l2").indices[:, :k]
    s, i = s.gather(1, by_score), i.gather(1, order).gather(1, by_score)
    restore = restorer(scores)
    return restore(s.masked_fill(i < 0, torch.nan)), restore(i.clamp_min(-1))


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
    every number of threads, and a shorter run's is the beginning of a longer one's. The CUDA kernels do not
    wait for values: for a bank that is not finite every index is -1.

    Args:
        bank: fp32, fp64, fp16 or bf16, any strides (read in place).
        size: 1 to N.
        seed: 0 to 2**63 - 1.
        progress: called as ``progress(done, size)`` now and then, and at the end; a CUDA device is then
            waited for. Not under torch.compile.

    Returns:
        Indices of the rows in the order they were chosen, int64, of the same kind of array as ``bank``.

    Raises:
        ValueError: shape, ``size`` or ``seed`` do not fit, or a value is NaN or infinite.
        TypeError: ``bank`` is not of a float dtype, or a number is not an integer.
    """
    b = _as_operand("greedy_coreset", "bank", bank)
    size, seed = (integer("greedy_coreset", *given) for given in (("size", size), ("seed", seed)))
    if progress is None and fits_int64(size) and fits_int64(seed):
        chosen = ops.greedy_coreset(b, size, seed)
    else:  # which the operator cannot take
        check_coreset(b, size, seed)
        run = cpu.greedy_coreset
        if b.device.type != "cpu":
            paths = cuda.greedy_coreset, torch_path.greedy_coreset
            run = backends.kernel("greedy_coreset", *paths, b.device)
        chosen = run(b, size, seed, progress)
    return restorer(bank)(chosen)
