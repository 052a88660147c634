"""nearest_templates against the definition: order, ties, accuracy, strides, dtypes, threads, SIMD levels."""

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
from support.retrieval_oracle import KINDS, METRICS, check, rows

import thfr_ext
from thfr_ext import _C, reference

DTYPES = (torch.float32, torch.float64, torch.float16, torch.bfloat16)
# Up to four queries stream the bank, more go through the packed product.
COUNTS = (3, 40)


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("queries", COUNTS)
def test_against_definition(metric: str, kind: str, queries: int) -> None:
    x = rows(kind, queries, 67, 1)
    y = rows(kind, 331, 67, 2, base=x)
    for k in (1, 5, 331):
        check(x, y, k, metric, thfr_ext.nearest_templates(x, y, k, metric))


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("dtype", DTYPES[1:])
@pytest.mark.parametrize("queries", COUNTS)
def test_dtypes(metric: str, dtype: torch.dtype, queries: int) -> None:
    for kind in ("random", "tied", "offset", "some zero"):
        x, y = rows(kind, queries, 70, 3).to(dtype), rows(kind, 130, 70, 4).to(dtype)
        for k in (1, 130):
            check(x, y, k, metric, thfr_ext.nearest_templates(x, y, k, metric))
        if dtype in (torch.float16, torch.bfloat16):
            check(x.float(), y, 7, metric, thfr_ext.nearest_templates(x.float(), y, 7, metric))


@pytest.mark.parametrize("scale", [1e-300, 1e-170, 1e170, 1e300])
@pytest.mark.parametrize("metric", ["cosine", "l2"])
@pytest.mark.parametrize("queries", COUNTS)
def test_double_beyond_the_range_of_squares(scale: float, metric: str, queries: int) -> None:
    x, y = (rows("random", n, 20, n).double() for n in (queries, 50))
    expected, order = thfr_ext.nearest_templates(x, y, 5, metric)
    got, indices = thfr_ext.nearest_templates(x * scale, y * scale, 5, metric)
    assert torch.equal(indices, order)
    torch.testing.assert_close(got / (scale if metric == "l2" else 1), expected, rtol=1e-13, atol=0)
    mixed = torch.cat([y, y * scale])  # ordinary and extreme rows side by side
    _, indices = thfr_ext.nearest_templates(x, mixed, 3, metric)
    assert (indices < (100 if metric == "cosine" or scale < 1 else 50)).all()


@pytest.mark.parametrize("queries", COUNTS)
def test_copies_tie_wherever_they_lie(queries: int) -> None:
    places = [
        0,
        5,
        6,
        7,
        8,
        11,
        12,
        15,
        16,
        31,
        32,
        33,
        63,
        64,
        65,
        127,
        128,
        255,
        256,
        257,
        511,
        512,
        600,
        698,
        699,
    ]
    y = rows("random", 700, 193, 5)
    y[places] = rows("random", 1, 193, 6)
    x = y[:1] + 0.01 * rows("random", queries, 193, 7)
    for metric in METRICS:
        for threads in (1, 2, 5):
            got, indices = with_threads(threads, x, y, len(places), metric)
            assert (indices == torch.tensor(places)).all(), metric
            assert (got == got[:, :1]).all()


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


@pytest.mark.parametrize("queries", COUNTS)
def test_strides(queries: int) -> None:
    y = rows("random", 90, 75, 15)
    x = rows("random", queries, 75, 16)
    layouts = {
        "transposed": lambda t: t.t().contiguous().t(),
        "every other column": lambda t: t.repeat_interleave(2, 1)[:, ::2],
        "every third row": lambda t: t.repeat_interleave(3, 0)[::3],
        "channels of an image": lambda t: (
            t.t().reshape(1, t.shape[1], t.shape[0], 1).permute(0, 2, 3, 1).reshape(t.shape)
        ),
    }
    for metric in METRICS:
        plain = thfr_ext.nearest_templates(x, y, 7, metric)
        for name, layout in layouts.items():
            for got, expected in zip(
                thfr_ext.nearest_templates(layout(x), layout(y), 7, metric), plain, strict=True
            ):
                assert torch.equal(got, expected), name
    same = y[:1].expand(90, 75)  # stride 0
    assert (thfr_ext.nearest_templates(x, same, 4)[1] == torch.arange(4)).all()


@pytest.mark.parametrize("queries", COUNTS)
def test_exclude(queries: int) -> None:
    y = rows("tied", 60, 9, 17)
    exclude = torch.arange(queries) % 61 - 1
    for metric in METRICS:
        for k in (1, 59):
            check(
                y[:queries],
                y,
                k,
                metric,
                thfr_ext.nearest_templates(y[:queries], y, k, metric, exclude),
                exclude,
            )
    strided = torch.stack([exclude, exclude + 1], 1)[:, 0]
    assert torch.equal(
        thfr_ext.nearest_templates(y[:queries], y, exclude=strided)[1],
        thfr_ext.nearest_templates(y[:queries], y, exclude=exclude)[1],
    )


def test_no_queries() -> None:
    for dtype in DTYPES:
        scores, indices = thfr_ext.nearest_templates(
            torch.empty(0, 4, dtype=dtype), torch.ones(3, 4, dtype=dtype), 2
        )
        assert scores.shape == indices.shape == (0, 2)
        assert scores.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)


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
