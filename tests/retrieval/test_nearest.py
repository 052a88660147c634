"""nearest_templates on every device: order, ties, accuracy, strides, dtypes; threads and SIMD levels."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from support.retrieval_cases import DTYPES, KINDS, LAYOUTS, METRICS, PAIRS, Way, check, rows

import thfr_ext
from thfr_ext import _C, reference

PLACES = [
    *(0, 1, 3, 4, 5, 6, 7, 8, 9, 11, 12, 15, 16, 31, 32, 33, 63, 64, 65, 95, 96, 127, 128, 129),
    *(255, 256, 257, 511, 512, 600, 698, 699),
]


@pytest.mark.parametrize("kind", KINDS)
def test_against_definition(kind: str, way: Way) -> None:
    width, count = way.of((67, 331), (19, 70))
    x = rows(kind, way.queries, width, 1)
    y = rows(kind, count, width, 2, base=x)
    for metric in METRICS:
        for k in way.of((1, 5, 331), (5,)):
            way.search(x, y, k, metric)


@pytest.mark.parametrize("pair", PAIRS)
def test_dtypes(pair: tuple[torch.dtype, torch.dtype], way: Way) -> None:
    width, count = way.of((70, 130), (24, 66))
    for kind in ("random", "tied", "offset", "some zero", "skewed"):
        x, y = (rows(kind, n, width, 3 + n).clamp(-60_000, 60_000) for n in (way.queries, count))
        for metric in METRICS:
            for k in way.of((1, 130), (3,)):
                way.search(x.to(pair[0]), y.to(pair[1]), k, metric)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_any_strides(layout: str, way: Way) -> None:
    width, count = way.of((75, 90), (16, 5))
    for pair in (PAIRS[0], PAIRS[1], PAIRS[4]):
        x, y = rows("random", way.queries, width, 5).to(pair[0]), rows("random", count, width, 6).to(pair[1])
        way.search(LAYOUTS[layout](x), y, 1, "l2")
        way.search(x, LAYOUTS[layout](y), 1, "cosine")
    way.search(x[:1].expand(2, width), LAYOUTS[layout](y), 2, "l2")
    way.search(x, y[:1].expand(count, width), 4, "cosine")


@pytest.mark.parametrize("width", [1, 7, 8, 33, 257, 520])
def test_widths(width: int, way: Way) -> None:
    for dtype, metric in zip(DTYPES, ("cosine", "l2", "cosine", "l2"), strict=True):
        x, y = rows("random", 2, width, 7).to(dtype), rows("random", 5, width, 8).to(dtype)
        way.search(x, y, 2, metric)


@pytest.mark.parametrize("count", [1, 2, 64, 65, 129])
def test_banks_and_lists(count: int, way: Way) -> None:
    """Around the edges of blocks of the bank, and of what the lanes of a warp hold of a list."""
    x, y = rows("random", 2, 6, 12), rows("tied", count, 6, 11)
    for k in (k for k in (1, 33, 64) if k <= count):
        way.search(x, y, k, "l2")
    way.search(x[:1], y, 1, "dot")


def test_copies_tie_wherever_they_lie(way: Way) -> None:
    count, width = way.of((700, 193), (130, 9))
    places = [place for place in PLACES if place < count]
    y = rows("random", count, width, 15)
    y[places] = rows("random", 1, width, 16)
    x = y[:1] + 0.01 * rows("random", way.queries, width, 17)
    for metric in way.of(METRICS, ("cosine", "l2")):
        scores, indices = way.search(x, y, len(places), metric)
        assert (indices == torch.tensor(places)).all(), metric
        assert (scores == scores[:, :1]).all()


@pytest.mark.parametrize("scale", [1e-300, 1e-170, 1e170, 1e300])
def test_double_beyond_the_range_of_squares(scale: float, way: Way) -> None:
    x, y = (rows("random", n, 20, n).double() for n in (way.queries, 50))
    mixed = torch.cat([y, y * scale])  # ordinary and extreme rows side by side
    for metric in ("cosine", "l2"):
        expected, order = thfr_ext.nearest_templates(x, y, 5, metric)
        got, indices = way.nearest_templates(x * scale, y * scale, 5, metric, None)
        assert torch.equal(indices, order)
        torch.testing.assert_close(got / (scale if metric == "l2" else 1), expected, rtol=1e-13, atol=0)
        scores, indices = way.nearest_templates(x, mixed, 4, metric, None)
        expected, _ = thfr_ext.nearest_templates(x, mixed, 4, metric)
        torch.testing.assert_close(scores, expected, rtol=1e-13, atol=0)
        assert (indices < (50 if metric == "l2" and scale > 1 else 100)).all()


@pytest.mark.parametrize("scale", [1e-40, 1e-25, 3e37])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_scores_beyond_single(scale: float, dtype: torch.dtype, way: Way) -> None:
    """Products that are infinite or vanish: ties, which go to the lower row."""
    x, y = (rows("random", n, 16, 20 + n) * scale for n in (way.queries, 20))
    for metric in METRICS:
        way.search(x.to(dtype), y.to(dtype), 6, metric)


def test_exclude(way: Way) -> None:
    x, y = rows("tied", 2 * way.queries, 9, 19), rows("tied", 66, 9, 20)
    exclude = torch.tensor([-1, 0, 65, 64, 30, -1]).repeat(14)[: len(x)]
    for metric in METRICS:
        for k in way.of((1, 4, 65), (4,)):
            way.search(x, y, k, metric, exclude)
    way.search(y[:6], y, 1, "l2", torch.arange(6))
    way.search(x[1:3], y[:2], 1, "dot", torch.tensor([1, -1]))
    way.search(x, y, 4, "l2", torch.stack([exclude, exclude], 1)[:, 0])  # not contiguous


def test_no_queries(way: Way) -> None:
    for dtype in DTYPES:
        x, y = torch.empty(0, 4, dtype=dtype), torch.ones(3, 4, dtype=dtype)
        scores, indices = way.nearest_templates(x, y, 2, "l2", None)
        assert scores.shape == indices.shape == (0, 2)
        assert scores.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)


def with_threads(threads: int, *args: object, **kwargs: object) -> tuple[torch.Tensor, torch.Tensor]:
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        return thfr_ext.nearest_templates(*args, **kwargs)
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("metric", METRICS)
def test_threads_do_not_matter(dtype: torch.dtype, metric: str) -> None:
    for queries, count in ((1, 3000), (4, 700), (9, 1500), (100, 40), (1500, 90)):
        x, y = rows("tied", queries, 33, 8).to(dtype), rows("tied", count, 33, 9).to(dtype)
        exclude = torch.arange(queries) % (count + 1) - 1
        once = with_threads(1, x, y, 4, metric, exclude)
        for threads in (2, 3, 8):
            again = with_threads(threads, x, y, 4, metric, exclude)
            assert torch.equal(once[0], again[0])
            assert torch.equal(once[1], again[1])


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("metric", METRICS)
def test_both_routes_agree_to_the_bit(dtype: torch.dtype, metric: str) -> None:
    x, y = rows("random", 40, 257, 10).to(dtype), rows("random", 300, 257, 11).to(dtype)
    together = thfr_ext.nearest_templates(x, y, 6, metric)
    alone = [thfr_ext.nearest_templates(x[q : q + 1], y, 6, metric) for q in range(40)]
    assert torch.equal(together[0], torch.cat([scores for scores, _ in alone]))
    assert torch.equal(together[1], torch.cat([indices for _, indices in alone]))


def test_wide_rows_stay_accurate() -> None:
    x = rows("positive", 12, 65_536, 12)
    y = torch.cat([rows("positive", 20, 65_536, 13), rows("near", 20, 65_536, 14, base=x)])
    for metric in METRICS:
        check(x, y, 40, metric, thfr_ext.nearest_templates(x, y, 40, metric))
        check(x[:2], y, 3, metric, thfr_ext.nearest_templates(x[:2], y, 3, metric))


@settings(max_examples=120, deadline=None)
@given(data=st.data())
def test_any_small_problem(data: st.DataObject) -> None:
    count, width = data.draw(st.integers(1, 80)), data.draw(st.integers(1, 40))
    queries = data.draw(st.integers(0, 30))
    dtype = data.draw(st.sampled_from(DTYPES))
    kind = data.draw(
        st.sampled_from([kind for kind in KINDS if kind not in ("tiny", "subnormal", "huge", "far offset")])
    )
    seed = data.draw(st.integers(0, 1000))
    exclude = None
    if count > 1 and data.draw(st.booleans()):
        exclude = torch.tensor(
            data.draw(st.lists(st.integers(-1, count - 1), min_size=queries, max_size=queries))
        )
        exclude = exclude.to(torch.int64)
    k = data.draw(st.integers(1, count if exclude is None else count - 1))
    metric = data.draw(st.sampled_from(METRICS))
    x, y = (
        rows(kind, n, width, seed + n).clamp(-60_000, 60_000).to(dtype)  # fp16's range
        for n in (queries, count)
    )
    check(x, y, k, metric, with_threads(data.draw(st.integers(1, 4)), x, y, k, metric, exclude), exclude)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("metric", METRICS)
def test_reference(dtype: torch.dtype, metric: str) -> None:
    for kind in ("random", "tied", "some zero", "huge" if dtype == torch.float32 else "offset"):
        x, y = rows(kind, 20, 31, 18).to(dtype), rows(kind, 77, 31, 19).to(dtype)
        exclude = torch.arange(20) - 1
        check(x, y, 9, metric, reference.nearest_templates(x, y, 9, metric, exclude), exclude)


def test_flushed_subnormals_do_not_matter() -> None:
    x, y = rows("subnormal", 20, 30, 20), rows("subnormal", 50, 30, 21)
    expected = [thfr_ext.nearest_templates(q, y, 5, "l2") for q in (x, x[:2])]
    if not torch.set_flush_denormal(True):
        pytest.skip("this CPU cannot flush subnormal numbers")
    try:
        got = [thfr_ext.nearest_templates(q, y, 5, "l2") for q in (x, x[:2])]
    finally:
        torch.set_flush_denormal(False)
    for a, b in zip(got, expected, strict=True):
        assert torch.equal(a[1], b[1])
        assert torch.equal(a[0].view(torch.int32), b[0].view(torch.int32))


LEVELS = """
import sys, numpy as np, torch, thfr_ext
sys.path.insert(0, sys.argv[1])
from support.retrieval_oracle import METRICS, rows
out = {"simd": np.array(thfr_ext.build_info()["simd"])}
for dtype in (torch.float32, torch.float64, torch.float16, torch.bfloat16):
    for queries in (3, 41):
        x, y = rows("tied", queries, 333, 1).to(dtype), rows("positive", 290, 333, 2).to(dtype)
        y[::3] = x[torch.arange(len(y[::3])) % queries] * 1.5
        for metric in METRICS:
            name = f"{dtype} {queries} {metric}"
            out[name + " scores"], out[name + " indices"] = thfr_ext.nearest_templates(x, y, 8, metric)
    out[f"{dtype} coreset"] = thfr_ext.greedy_coreset(y, 40)
np.savez(sys.argv[2], **out)
"""


def test_instruction_sets_agree(tmp_path: Path) -> None:
    runs = {
        level: subprocess.Popen(
            [sys.executable, "-c", LEVELS, str(Path(__file__).parents[1]), str(tmp_path / f"{level}.npz")],
            env={**os.environ, "THFR_SIMD": level},
        )
        for level in _C.build_info()["simd_built"]
    }
    assert [run.wait() for run in runs.values()] == [0] * len(runs)
    results = {level: dict(np.load(tmp_path / f"{level}.npz")) for level in runs}
    assert len({str(result["simd"]) for result in results.values()}) > 1 or len(results) == 1
    baseline = results.pop("baseline")
    for level, result in results.items():
        for name, expected in baseline.items():
            if "float64" in name and "indices" not in name:
                np.testing.assert_allclose(
                    result[name], expected, rtol=1e-14, atol=1e-13, err_msg=f"{level} {name}"
                )
            elif name != "simd" and "float64" not in name:
                np.testing.assert_array_equal(result[name], expected, err_msg=f"{level} {name}")


MEMORY = """
import resource, torch, thfr_ext
torch.set_num_threads(2)
x, y = torch.randn(20000, 4), torch.randn(20000, 4)
thfr_ext.nearest_templates(x[:100], y)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
thfr_ext.nearest_templates(x, y, 3)
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)
"""


def test_never_holds_all_pairs() -> None:
    run = subprocess.run([sys.executable, "-c", MEMORY], check=True, capture_output=True, text=True)
    assert int(run.stdout) < 100, "MiB more; all pairs are 1,526 MiB"
