"""Packed scores and cells as operators: formats, plain PyTorch twins, guards."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

import thfr_ext
from thfr_ext import _C, reference
from thfr_ext.core.tensors import view
from thfr_ext.metrics import ops as metrics_ops
from thfr_ext.metrics import reference as twins

OPS = torch.ops.thfr_ext
INF = float("inf")


def random(n: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.rand(n, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def spread(n: int) -> Tensor:
    return (random(n, 1, torch.float64) - 0.5) * 10 ** (random(n, 2, torch.float64) * 600 - 300)


SCORES: dict[str, Callable[[], Tensor]] = {
    "random": lambda: random(5000),
    "skewed": lambda: random(5000) ** 12,
    "half": lambda: random(9000).half().float(),
    "eight bits": lambda: (random(9000) * 255).round(),
    "fp64": lambda: random(5000, dtype=torch.float64),
    "both signs": lambda: random(5000) - 0.5,
    "huge": lambda: (random(1000) - 0.3) * 3e38,
    "spread": lambda: spread(1000),
    "constant": lambda: torch.full((100_000,), 0.1),
    "one heavy": lambda: torch.cat([torch.zeros(100_000), random(300)]),
    "signed zeros": lambda: torch.tensor([0.0, -0.0, 1e-45, -1e-45]),
    "extremes": lambda: torch.tensor([-INF, -1.7e308, -5e-324, 0.0, 5e-324, 1.7e308, INF]).double(),
    "empty": lambda: torch.empty(0),
    "one": lambda: torch.tensor([3.5]),
    "a block": lambda: random(256),
    "a block and one": lambda: random(257),
    "strided": lambda: random(3000)[::3],
}


def expand(run: Tensor) -> Tensor:
    keys, counts = twins.unpack(run)
    return twins.to_score(keys).repeat_interleave(counts)


@pytest.mark.parametrize("kind", SCORES)
def test_packing_loses_nothing_but_the_order(kind: str) -> None:
    scores = SCORES[kind]()
    run = OPS.pack_scores(scores)
    assert torch.equal(expand(run), (scores.double() + 0.0).sort().values)
    assert torch.equal(run, twins.pack_scores(scores))
    assert torch.equal(run, OPS.pack_scores(scores.flip(0)))
    if len(scores) >= 5:
        runs = [OPS.pack_scores(part) for part in (scores[:1], scores[1:4], scores[4:], scores[:0])]
        assert torch.equal(OPS.merge_packed(runs), run)
        assert torch.equal(twins.merge_packed(runs), run)


@settings(deadline=None, max_examples=150, derandomize=True)
@given(
    st.lists(st.floats(allow_nan=False) | st.floats(-1, 1, width=16), max_size=700),
    st.integers(0, 700),
)
def test_any_numbers_pack(numbers: list[float], cut: int) -> None:
    scores = torch.tensor(numbers, dtype=torch.float64)
    run = OPS.pack_scores(scores)
    assert torch.equal(expand(run), torch.where(scores == 0, 0.0, scores).sort().values)
    assert torch.equal(OPS.merge_packed([OPS.pack_scores(scores[:cut]), OPS.pack_scores(scores[cut:])]), run)


def test_bytes() -> None:
    """What the docstring of the metrics promises, on a quarter of a million scores."""
    coarse = random(2**18)
    for scores, most in ((coarse, 2.2), (coarse**12, 2.6), (coarse.half().float(), 0.1)):
        assert len(OPS.pack_scores(scores)) / len(scores) < most


def samples() -> dict[str, tuple[Any, ...]]:
    scores, offsets = random(200, 5) * 1.2, torch.tensor([0, 50, 51, 200])
    saturations = torch.tensor([20, 9, 149])
    runs = [OPS.pack_scores(random(n, n)) for n in (700, 30, 300)]
    sketches = [OPS.merge_cells([], random(n, n), 40, 0.0, True)[0] for n in (900, 100)]
    return {
        "pack_scores": (random(1000),),
        "merge_packed": (runs,),
        "packed_area": (runs, scores, offsets, saturations, [0.05, 0.3, 1.0]),
        "packed_auroc": (runs[:2], runs[1:]),
        "merge_cells": (sketches, random(500, 7), 60, 0.01, True),
        "cells_area": (*sketches, 100.0, [0.05, 0.3, 1.0]),
    }


TWINS: dict[str, Callable[..., Any]] = {
    "pack_scores": metrics_ops._pack_scores_reference,
    "merge_packed": metrics_ops._merge_packed_reference,
    "packed_area": twins.packed_area,
    "packed_auroc": twins.packed_auroc,
    "merge_cells": metrics_ops._checked_cells(metrics_ops._merge_cells_reference),
    "cells_area": metrics_ops._cells_area_reference,
}


@pytest.mark.parametrize("name", TWINS)
def test_opcheck(name: str) -> None:
    torch.library.opcheck(getattr(OPS, name).default, samples()[name])


@pytest.mark.parametrize("name", TWINS)
def test_the_plain_twin_gives_the_same(name: str) -> None:
    given, expected = getattr(OPS, name)(*samples()[name]), TWINS[name](*samples()[name])
    for left, right in zip(*([x] if isinstance(x, Tensor) else x for x in (given, expected)), strict=True):
        torch.testing.assert_close(left, right, rtol=0, atol=1e-12)


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("name", TWINS)
def test_cuda(name: str) -> None:
    def move(value: Any) -> Any:
        if isinstance(value, Tensor):
            return value.cuda()
        return [move(v) for v in value] if isinstance(value, list) else value

    given = getattr(OPS, name)(*(move(a) for a in samples()[name]))
    expected = getattr(OPS, name)(*samples()[name])
    if name == "merge_cells" and thfr_ext.build_info()["backend"][name]["cuda"] == "native":
        sketches, scores = samples()[name][:2]
        assert int(given[0][2].sum()) == len(scores) + sum(int(s[2].sum()) for s in sketches)
        return  # other cells; tests/emulator/test_sweep_stream.py says which
    for left, right in zip(*([x] if isinstance(x, Tensor) else x for x in (given, expected)), strict=True):
        assert left.is_cuda
        torch.testing.assert_close(left.cpu(), right, rtol=0, atol=1e-12)


def test_packed_areas_are_those_of_all_scores() -> None:
    runs, scores, offsets, saturations, limits = samples()["packed_area"]
    negatives = torch.cat([expand(r) for r in runs]).float()
    assert torch.equal(
        OPS.packed_area(runs, scores, offsets, saturations, limits),
        OPS.spro_area(negatives, scores, offsets, saturations, limits),
    )
    below, above = ((torch.cat([random(n, n) for n in sizes]) * 50).floor() for sizes in ((90, 40), (70,)))
    labels = torch.arange(200) >= 130
    area = OPS.packed_auroc(
        [OPS.pack_scores(below)], [OPS.pack_scores(above[:30]), OPS.pack_scores(above[30:])]
    )
    assert area == thfr_ext.auroc(torch.cat([below, above]), labels)


def shared(sketch: Tensor, scores: Tensor) -> bool:
    """Whether scores can be given to cells so that each lies in its own: sorted ones to sorted ends."""
    keys = twins.to_order(scores).sort(descending=True).values
    highs, lows = (sketch[i].repeat_interleave(sketch[2]).sort(descending=True).values for i in (0, 1))
    return len(highs) == len(keys) and bool((lows <= keys).all()) and bool((keys <= highs).all())


@settings(deadline=None, max_examples=150, derandomize=True)
@given(st.data())
def test_cells_bound_the_scores(data: st.DataObject) -> None:
    """However sketches grow and merge, natively and in the twin, which are equal."""
    most, relative = data.draw(st.integers(16, 80)), data.draw(st.booleans())
    sketches: list[tuple[Tensor, Tensor]] = []
    share = 0.0
    for step in range(data.draw(st.integers(1, 6))):
        scale, shift = data.draw(st.sampled_from([1.0, 1e-3, 40.0])), data.draw(st.sampled_from([0.0, 0.3]))
        scores = random(data.draw(st.integers(0, 300)), step) * scale + shift
        if data.draw(st.booleans()):
            scores = (scores * 16).round() / 16
        taken = sketches[: data.draw(st.integers(0, 2))]
        arguments = [sketch for sketch, _ in taken], scores, most, share, relative
        sketch, raised = OPS.merge_cells(*arguments)
        expected, wanted = twins.merge_cells(*arguments)
        assert torch.equal(sketch, expected)
        assert raised == wanted
        everything = torch.cat([scores, *(s for _, s in taken)])
        assert sketch.shape[1] <= most
        assert shared(sketch, everything)
        share = float(raised)
        sketches = [(sketch, everything), *sketches[len(taken) :]]


def test_few_distinct_scores_stay_exact() -> None:
    scores = (random(100_000) * 50).floor()
    sketch, share = OPS.merge_cells([], scores, 60, 0.0, True)
    assert share == 0
    assert torch.equal(sketch[0], sketch[1])
    assert torch.equal(twins.to_score(sketch[0]).flip(0), scores.unique().double())
    assert torch.equal(sketch[2].flip(0), scores.unique(return_counts=True)[1])


def test_areas_of_exact_cells_are_exact() -> None:
    negatives, positives = (random(3000) * 90).floor(), (random(200, 1) * 110).floor()
    cells = [OPS.merge_cells([], x, 200, 0.0, True)[0] for x in (negatives, positives)]
    limits = [0.001, 0.0371, 0.3, 1.0]
    low, high = OPS.cells_area(*cells, 200.0, limits)
    expected = reference.spro_area(negatives, positives, torch.tensor([0, 200]), torch.tensor([200]), limits)
    torch.testing.assert_close(low, expected, rtol=0, atol=1e-12)
    assert torch.equal(low, high)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: OPS.pack_scores(random(4).half()), TypeError, "pack_scores: scores: expected float32 or"),
        (lambda: OPS.pack_scores(random(4).view(2, 2)), ValueError, "pack_scores: scores: expected shape"),
        (
            lambda: OPS.pack_scores(torch.tensor([torch.nan])),
            ValueError,
            "pack_scores: scores: expected numbers, got NaN",
        ),
        (
            lambda: OPS.merge_cells([], torch.tensor([torch.nan]), 60, 0.0, True),
            ValueError,
            "merge_cells: scores: expected numbers, got NaN",
        ),
        (
            lambda: OPS.merge_cells([], random(4), 3, 0.0, True),
            ValueError,
            "merge_cells: expected most >= 16",
        ),
        (
            lambda: OPS.merge_cells([random(3).view(3, 1)], random(4), 30, 0.0, True),
            ValueError,
            "merge_cells: sketches: expected cells, int64",
        ),
        (
            lambda: OPS.packed_area([], *samples()["packed_area"][1:]),
            ValueError,
            "packed_area: negatives: expected at least one, got none",
        ),
        (lambda: OPS.merge_packed([random(9)]), ValueError, "merge_packed: runs: expected packed scores"),
        (
            lambda: OPS.packed_area([OPS.pack_scores(random(0))], *samples()["packed_area"][1:]),
            ValueError,
            "packed_area: negatives: expected at least one score, got none",
        ),
        (
            lambda: OPS.packed_area(samples()["packed_area"][0], random(9), *samples()["packed_area"][2:]),
            ValueError,
            "packed_area: region_offsets: expected to rise from 0 to the 9",
        ),
        (
            lambda: OPS.packed_auroc([OPS.pack_scores(random(0))], [OPS.pack_scores(random(3))]),
            ValueError,
            "packed_auroc: expected negatives and positives",
        ),
        (
            lambda: OPS.cells_area(*samples()["cells_area"][:3], [0.0]),
            ValueError,
            "cells_area: limits: expected a number",
        ),
    ],
)
def test_refusals(call: Callable[[], Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        call()


def test_bytes_that_are_no_packed_scores_do_no_harm() -> None:
    """Truncated and changed runs: an error or other numbers, but nothing read or written out of bounds."""
    run = OPS.pack_scores(torch.cat([random(2000), (random(500) * 9).floor()]))
    for end in range(0, len(run), 97):
        with pytest.raises(ValueError, match="merge_packed: expected bytes as pack_scores makes them"):
            OPS.merge_packed([run[:end]])
    refused = 0
    for i in range(0, len(run), 7):
        bad = run.clone()
        bad[i] ^= 1 << (i % 8)
        try:
            OPS.merge_packed([bad, run])
        except ValueError:
            refused += 1
    assert refused > 0


def test_the_module_itself_guards_memory() -> None:
    sketch, limits = samples()["merge_cells"][0][0], torch.ones(1).double()
    rising = sketch.flip(1).contiguous()
    heavy = sketch.clone()
    heavy[2, :2] = torch.iinfo(torch.int64).max
    for bad in (rising, heavy, -sketch, sketch[:2].contiguous(), sketch.T, random(9)):
        with pytest.raises(ValueError, match="merge_cells: arguments do not fit"):
            _C.merge_cells([view(bad)], view(random(3)), 60, 0.0, True, 1)
        with pytest.raises(ValueError, match="cells_area: arguments do not fit"):
            _C.cells_area(view(sketch), view(bad), 1.0, view(limits), view(torch.ones(2).double()))
    maps, mask = random(6).view(2, 3), torch.tensor([[True, False, False], [False, True, True]])
    for count, room in ((3, 4), (7, 7), (-1, 3)):
        counts, scores = torch.tensor([count]), torch.empty(room)
        with pytest.raises(ValueError, match="negative_scores: arguments do not fit"):
            _C.negative_scores([view(maps)], [view(mask)], view(counts), view(scores), 1)
    counts, scores = torch.tensor([2]), torch.zeros(2)  # a count too low is kept to
    _C.negative_scores([view(maps)], [view(mask)], view(counts), view(scores), 1)
    assert torch.equal(scores, maps[0, 1:])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16, torch.bfloat16], ids=str)
def test_negatives_of_any_layout(dtype: torch.dtype) -> None:
    maps = random(2 * 40 * 60).view(2, 40, 60).to(dtype)
    masks = random(2 * 40 * 60, 1).view(2, 40, 60) < 0.3
    wide = torch.float64 if dtype == torch.float64 else torch.float32
    for images, marks in ((maps, masks), (maps.mT, masks.mT), (maps[:, ::2, 1::3], masks[:, ::2, 1::3])):
        negatives = OPS.component_samples(list(images), list(marks))[0]
        assert negatives.dtype == wide
        assert torch.equal(negatives, torch.cat([m[~k] for m, k in zip(images, marks, strict=True)]).to(wide))
