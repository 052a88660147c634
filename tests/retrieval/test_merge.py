"""merge_nearest: the k best of a bank in shards are those of the bank."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from support.retrieval_oracle import KINDS, METRICS, rows
from torch import Tensor

import thfr_ext


def in_shards(
    queries: Tensor, bank: Tensor, cuts: Sequence[int], k: int, metric: str
) -> tuple[Tensor, Tensor]:
    """Results of the bank's pieces between ``cuts``, padded to k with scores that mean nothing."""
    kept = torch.float64 if queries.dtype == torch.float64 else torch.float32
    edges = [0, *cuts, len(bank)]
    shape = (len(edges) - 1, len(queries), k)
    scores, indices = torch.full(shape, 1e9, dtype=kept), torch.full(shape, -1)
    scores[:, :, ::2] = math.nan
    for shard, (begin, end) in enumerate(itertools.pairwise(edges)):
        most = min(k, end - begin)
        if most:
            found = thfr_ext.nearest_templates(queries, bank[begin:end], most, metric)
            scores[shard, :, :most], indices[shard, :, :most] = found[0], found[1] + begin
    return scores, indices


def check(queries: Tensor, bank: Tensor, cuts: Sequence[int], k: int, metric: str) -> None:
    merged = thfr_ext.merge_nearest(*in_shards(queries, bank, cuts, k, metric), k, metric)
    whole = thfr_ext.nearest_templates(queries, bank, k, metric)
    assert all(map(torch.equal, merged, whole))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("metric", METRICS)
def test_shards_are_one_bank(kind: str, metric: str) -> None:
    queries, bank = rows(kind, 7, 12, 0), rows(kind, 90, 12, 1)
    bank[40:60] = bank[:20]  # equal rows in different shards
    for dtype in (torch.float32, torch.float64):
        for k in (1, 5, 40):
            check(queries.to(dtype), bank.to(dtype), [3, 30, 31, 45], k, metric)


@settings(deadline=None, max_examples=100, derandomize=True)
@given(st.data())
def test_any_shards(data: st.DataObject) -> None:
    count, metric = data.draw(st.integers(1, 40)), data.draw(st.sampled_from(METRICS))
    generator = torch.Generator().manual_seed(data.draw(st.integers(0, 999)))
    bank = torch.randint(-1, 2, (count, 2), generator=generator).float()  # nearly every row ties
    queries = torch.randint(-1, 2, (data.draw(st.integers(0, 4)), 2), generator=generator).float()
    cuts = sorted(data.draw(st.lists(st.integers(0, count), max_size=4)))
    check(queries, bank, cuts, data.draw(st.integers(1, count)), metric)


def test_fewer_results_than_k() -> None:
    scores = torch.tensor([[[1.0, math.nan], [7.0, 3.0]], [[2.0, 5.0], [9.0, math.nan]]])
    indices = torch.tensor([[[4, -1], [-1, -1]], [[9, -7], [0, -1]]])
    best, found = thfr_ext.merge_nearest(scores, indices, 3, "l2")
    assert found.tolist() == [[4, 9, -1], [0, -1, -1]]
    assert best[0, :2].tolist() == [1, 2]
    assert best[1, 0] == 9
    assert bool(best[found < 0].isnan().all())
    assert bool(best[found >= 0].isfinite().all())


@pytest.mark.parametrize("metric", METRICS)
def test_infinite_scores_beat_padding(metric: str) -> None:
    worst = math.inf if metric == "l2" else -math.inf
    best, found = thfr_ext.merge_nearest(
        torch.tensor([[[worst]], [[-worst]], [[worst]]]), torch.tensor([[[-1]], [[-1]], [[3]]]), 2, metric
    )
    assert found.tolist() == [[3, -1]]
    assert best[0, 0] == worst


def test_arrays_and_layouts() -> None:
    scores, indices = in_shards(rows("random", 5, 8, 0), rows("random", 30, 8, 1), [9, 20], 4, "dot")
    scores = scores.nan_to_num()
    expected = thfr_ext.merge_nearest(scores, indices, 4, "dot")
    best, found = thfr_ext.merge_nearest(scores.numpy(), indices.numpy(), np.int64(4), "dot")
    assert isinstance(best, np.ndarray)
    assert np.array_equal(best, expected[0].numpy())
    assert np.array_equal(found, expected[1].numpy())
    turned = [t.permute(2, 1, 0).contiguous().permute(2, 1, 0) for t in (scores, indices)]
    assert all(map(torch.equal, thfr_ext.merge_nearest(*turned, 4, "dot"), expected))
    half = thfr_ext.merge_nearest(scores.half(), indices, 4, "dot")
    assert half[0].dtype == torch.float16


SCORES, INDICES = torch.rand(2, 3, 4), torch.arange(24).view(2, 3, 4)


@pytest.mark.parametrize(
    ("change", "error", "begins"),
    [
        ({"scores": SCORES[0]}, ValueError, "scores: expected shape [S,Q,K], got [3, 4]"),
        ({"scores": SCORES.long()}, TypeError, "scores: expected float32, float64, float16 or bfloat16"),
        ({"scores": None}, TypeError, "scores: expected a torch tensor"),
        ({"scores": SCORES * math.nan}, ValueError, "scores: expected numbers where indices are at least 0"),
        ({"indices": INDICES[:1]}, ValueError, "indices: expected shape and device of scores"),
        ({"indices": INDICES.to("meta")}, ValueError, "indices: expected shape and device of scores"),
        ({"indices": INDICES.int()}, TypeError, "indices: expected int64"),
        ({"k": 0}, ValueError, "k: expected 1 to the 8 results a query of scores"),
        ({"k": 9}, ValueError, "k: expected 1 to the 8 results a query of scores"),
        ({"k": 2**70}, ValueError, "k: expected"),
        ({"k": 1.0}, TypeError, "k: expected an integer, got 1.0"),
        ({"metric": "euclid"}, ValueError, "metric: expected one of cosine, l2, dot, got 'euclid'"),
        ({"metric": 3}, ValueError, "metric: expected one of cosine, l2, dot, got 3"),
    ],
)
def test_refusals(change: dict[str, Any], error: type[Exception], begins: str) -> None:
    with pytest.raises(error) as caught:
        thfr_ext.merge_nearest(**{"scores": SCORES, "indices": INDICES, "k": 2, "metric": "l2", **change})
    assert str(caught.value).startswith(f"merge_nearest: {begins}")
