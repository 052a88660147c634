"""The two modes of the metrics: what exact ones keep, and what bounded ones promise."""

from __future__ import annotations

import itertools
import pickle
from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

import thfr_ext
from thfr_ext.metrics import AUPRO, AUROC, AUsPRO
from thfr_ext.metrics import memory as memory_of
from thfr_ext.metrics.memory import Budget

LIMITS = (0.001, 0.05, 0.3, 1.0)
METRICS = pytest.mark.parametrize("kind", [AUPRO, AUsPRO, AUROC])
#: per image factor and shift of the scores
STREAMS: dict[str, Callable[[int], tuple[float, float]]] = {
    "steady": lambda i: (1.0, 0.0),
    "ever higher": lambda i: (1.0, float(i)),
    "ever lower": lambda i: (1.0, -float(i)),
    "scale grows": lambda i: (1.5**i, 0.0),
    "narrow later": lambda i: (1.0, 0.0) if i < 3 else (1e-3, 0.4),
    "constant first": lambda i: (0.0, 0.5) if i == 0 else (1.0, 0.0),
}


def images(
    count: int, side: int, seed: int, power: float = 1.0, levels: int = 0, stream: str = "steady"
) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    u = torch.rand(count, side, side, generator=generator)
    masks = torch.rand(count, side, side, generator=generator) < 3 / side**2
    masks = torch.nn.functional.max_pool2d(masks.float(), 5, 1, 2) > 0
    masks[::3] = False
    masks[1, :3, :3] = True
    u = torch.where(masks & (torch.rand(u.shape, generator=generator) < 0.6), u.sqrt(), u)
    if levels:
        u = (u * levels).floor() / levels
    factors = torch.tensor([STREAMS[stream](i) for i in range(count)]).T
    return u**power * factors[0].view(-1, 1, 1) + factors[1].view(-1, 1, 1), masks


def batch(kind: type, maps: Tensor, masks: Tensor, part: slice) -> tuple[Any, ...]:
    if kind is not AUsPRO:
        return maps[part], masks[part]
    regions = [torch.stack([m, m.flip(1)]) if m.any() else m.expand(0, -1, -1) for m in masks[part]]
    return (
        list(maps[part]),
        regions,
        [[max(int(m.sum()) // 2, 1), 1000][: len(r)] for m, r in zip(masks[part], regions, strict=True)],
    )


def options(kind: type) -> dict[str, Any]:
    return {AUPRO: {"limit": 0.3}, AUsPRO: {"limits": LIMITS}, AUROC: {}}[kind]


def whole(kind: type, maps: Tensor, masks: Tensor) -> list[float]:
    everything = batch(kind, maps, masks, slice(None))
    if kind is AUsPRO:
        return list(thfr_ext.au_spro(*everything, LIMITS).values())
    return [thfr_ext.au_pro(*everything) if kind is AUPRO else thfr_ext.auroc(*everything)]


def numbers(result: Any) -> list[float]:
    return [v.item() for v in (result.values() if isinstance(result, dict) else [result])]


def require_bounds(metric: Any, expected: list[float]) -> list[float]:
    """The exact value lies in the bounds, which compute's value and error bound tell too: returns it."""
    low, high = (numbers(b) for b in metric.bounds())
    values = numbers(metric.compute())
    errors = numbers(metric.error_bound)
    for value, error, least, most, exact in zip(values, errors, low, high, expected, strict=True):
        assert 0 <= least <= exact <= most <= 1
        assert least <= value <= most
        assert abs(value - exact) <= error == (most - least) / 2
    return errors


@METRICS
def test_exact_batches_give_the_value_of_the_whole(kind: type) -> None:
    maps, masks = images(24, 20, 0, 3.0)
    metric, other = kind(**options(kind)), kind(**options(kind))
    for i in range(24):
        (other if i % 3 == 0 else metric).update(*batch(kind, maps, masks, slice(i, i + 1)))
    lengths = [len(t) for t in metric.metric_state["negatives"]]
    assert 1 < len(lengths) <= 5
    assert all(a > 2 * b for a, b in itertools.pairwise(lengths))
    metric.merge_state(other)
    expected = whole(kind, maps, masks)
    assert numbers(metric.compute()) == expected
    assert numbers(metric.error_bound) == [0] * len(expected)
    assert [numbers(b) for b in metric.bounds()] == [expected, expected]
    metric.persistent(True)
    loaded = kind(**options(kind))
    loaded.load_state_dict(metric.state_dict())
    loaded.update(*batch(kind, maps, masks, slice(0, 3)))
    again = [torch.cat([t, t[:3]]) for t in (maps, masks)]
    assert numbers(loaded.compute()) == whole(kind, *again)
    assert numbers(pickle.loads(pickle.dumps(metric)).compute()) == expected


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64], ids=str)
def test_an_exact_state_is_the_scores(dtype: torch.dtype) -> None:
    metric = AUPRO()
    maps, masks = images(6, 100, 1, 12.0)
    maps = maps.to(dtype)
    for i in range(6):
        metric.update(maps[i : i + 1], masks[i : i + 1])
    assert metric.compute().item() == thfr_ext.au_pro(maps, masks)
    regions = sum(map(len, metric.metric_state["areas"]))
    assert metric.state_bytes == (8 if dtype == torch.float64 else 4) * maps.numel() + 8 * regions


@METRICS
def test_batches_of_two_dtypes(kind: type) -> None:
    """fp32 and fp64 batches in one metric: each score as it came."""
    maps, masks = images(6, 20, 2)
    wide = maps.double() + 1e-12
    metric = kind(**options(kind))
    for i in range(6):
        metric.update(*batch(kind, wide if i % 2 else maps, masks, slice(i, i + 1)))
    both = torch.stack([wide[i] if i % 2 else maps[i].double() for i in range(6)])
    assert numbers(metric.compute()) == whole(kind, both, masks)


def test_packed_scores_of_version_0_1_are_refused() -> None:
    metric = AUROC()
    packed = torch.zeros(40, dtype=torch.uint8)
    with pytest.raises(ValueError, match=r"^AUROC: merge_state: expected scores, got packed ones"):
        metric.merge_state({"negatives": [packed], "positives": [packed]})
    assert metric.update_count == 0


def test_saturation_leaves_pixels_out() -> None:
    metric, maps = AUsPRO(), torch.rand(1, 30, 30, generator=torch.Generator().manual_seed(0))
    regions = [torch.zeros(2, 30, 30, dtype=torch.bool)]
    regions[0][0, :10], regions[0][1, 5:20] = True, True
    metric.update(list(maps), regions, [[7, 1000]])
    assert len(metric.metric_state["scores"][0]) == 7 + 450
    assert {k: v.item() for k, v in metric.compute().items()} == thfr_ext.au_spro(
        list(maps), regions, [[7, 1000]]
    )


@settings(deadline=None, max_examples=60, derandomize=True)
@given(st.data())
def test_the_exact_value_lies_within_the_bounds(data: st.DataObject) -> None:
    """For sketches of a few dozen bins, any stream, any order, merged from any parts."""
    kind = data.draw(st.sampled_from([AUPRO, AUsPRO, AUROC]))
    stream = data.draw(st.sampled_from(sorted(STREAMS)))
    count, parts = data.draw(st.integers(2, 12)), data.draw(st.integers(1, 4))
    maps, masks = images(
        count, 16, data.draw(st.integers(0, 99)), data.draw(st.sampled_from([1.0, 12.0])),
        data.draw(st.sampled_from([0, 0, 9])), stream,
    )  # fmt: skip
    metrics = [kind(exact=False, **options(kind)) for _ in range(parts)]
    for metric in metrics:
        metric._budget = Budget(data.draw(st.sampled_from([1500, 4000, 20_000])))
    for i in data.draw(st.permutations(range(count))):
        metrics[i % parts].update(*batch(kind, maps, masks, slice(i, i + 1)))
    for other in metrics[1:]:
        metrics[0].merge_state(other)
    require_bounds(metrics[0], whole(kind, maps, masks))


@METRICS
@pytest.mark.parametrize("levels", [0, 200], ids=["random", "tied"])
def test_few_scores_are_exact(kind: type, levels: int) -> None:
    maps, masks = images(9, 24, 3, 1.0, levels)
    metric = kind(exact=False, **options(kind))
    for i in range(0, 9, 2):
        metric.update(*batch(kind, maps, masks, slice(i, i + 2)))
    assert max(require_bounds(metric, whole(kind, maps, masks))) <= 1.1e-11


@METRICS
@pytest.mark.parametrize("power", [1.0, 12.0])
def test_the_error_of_a_bounded_metric(kind: type, power: float) -> None:
    """2 MB for a million pixels: the bound shrinks with the memory, and the state keeps to it."""
    maps, masks = images(8, 384, 4, power)
    expected = whole(kind, maps, masks)
    for memory, bound in ((1_000_000, 6e-4), (4_000_000, 1.5e-4)):
        metrics = [kind(exact=False, memory=memory, **options(kind)) for _ in range(4)]
        for i in range(8):
            metrics[i // 2].update(*batch(kind, maps, masks, slice(i, i + 1)))
            assert metrics[i // 2].state_bytes <= memory
        for other in metrics[1:]:
            metrics[0].merge_state(other)
            assert metrics[0].state_bytes <= memory
        assert metrics[0].memory == memory
        assert max(require_bounds(metrics[0], expected)) < bound


@METRICS
def test_a_bounded_metric_is_a_metric(kind: type) -> None:
    maps, masks = images(8, 24, 5)
    metric = kind(exact=False, memory=1_000_000, **options(kind))
    with pytest.raises(ValueError, match=rf"^{kind.__name__}: compute: expected at least one update before"):
        metric.bounds()
    assert metric.error_bound is None
    nothing = numbers(metric(*batch(kind, maps, masks, slice(0, 1))))
    assert all(v != v for v in nothing)
    with pytest.raises(
        ValueError, match=rf"^{kind.__name__}: compute: expected at least one (anomalous|positive)"
    ):
        metric.compute()
    rest = metric(*batch(kind, maps, masks, slice(1, 8)))
    assert numbers(rest) == whole(kind, maps[1:], masks[1:])  # the batch alone, exactly
    expected = whole(kind, maps, masks)
    require_bounds(metric, expected)
    for other in (metric.clone(), pickle.loads(pickle.dumps(metric)), metric.half().to("cpu")):
        assert numbers(other.compute()) == numbers(metric.compute())
    metric.persistent(True)
    loaded = kind(exact=False, **options(kind))
    loaded.load_state_dict(metric.state_dict())
    require_bounds(loaded, expected)
    joined = kind(exact=False, **options(kind))
    joined.merge_state(metric.metric_state)
    require_bounds(joined, expected)
    with pytest.raises(ValueError, match=f"{kind.__name__}: merge_state: expected states"):
        kind(**options(kind)).merge_state(metric)
    metric.reset()
    assert metric.error_bound is None
    metric.update(*batch(kind, maps, masks, slice(None)))
    require_bounds(metric, expected)


def test_many_small_updates() -> None:
    """Waiting tensors are few, whatever the size of the updates."""
    generator = torch.Generator().manual_seed(0)
    scores = torch.rand(3000, generator=generator)
    labels = torch.rand(3000, generator=generator) < scores
    for metric in (AUROC(), AUROC(exact=False)):
        for i in range(0, 3000, 3):
            metric.update(scores[i : i + 3], labels[i : i + 3])
        assert max(map(len, metric.metric_state.values())) <= memory_of.PENDING_TENSORS + 1
        require_bounds(metric, [thfr_ext.auroc(scores, labels)])


def test_regions_of_any_weight() -> None:
    """A region's pixels weigh as much as the region, and no more, at each number of them."""
    scores = torch.rand(1000, generator=torch.Generator().manual_seed(0))
    for saturation in (1, 3, 7, 999, 1000, 1001, 2**40, 2**62):
        bins = memory_of.region_bins(scores, torch.tensor([1000]), torch.tensor([saturation]))
        sums = bins[2].cumsum(0).double()
        counts = torch.arange(1, len(sums) + 1).clamp_max(saturation).double()
        assert bool(((sums - counts * (memory_of.REGION_WEIGHT / saturation)).abs() <= 0.51).all())
        assert len(sums) == min(saturation, 1000) or saturation >= 2**40


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"memory": 32_000_000}, "AUPRO: memory: expected None with exact=True, got 32000000"),
        ({"exact": False, "memory": 999_999}, "AUPRO: memory: expected at least 1000000 bytes, got 999999"),
    ],
)
def test_memory_is_checked(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        AUPRO(**arguments)
    assert AUPRO().memory is None
    assert AUPRO(exact=False).memory == 32_000_000
