"""Metrics as on a CUDA device: scores from the kernels, bins joined by blocks."""

from __future__ import annotations

from types import ModuleType
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from support.metrics_oracle import hold
from support.sweep_kernels import ONE_ORDER, rand
from torch import Tensor

from thfr_ext.core import registration
from thfr_ext.metrics import AUPRO, AUROC, AUsPRO
from thfr_ext.metrics import memory as memory_of
from thfr_ext.metrics import ops as metrics_ops
from thfr_ext.metrics import torch_path as metrics_path
from thfr_ext.metrics.reference import to_order
from thfr_ext.sweep import ops as sweep_ops

OPERATORS = torch.ops.thfr_ext
NAMES = ("component_samples", "region_samples", "au_pro", "au_spro", "spro_area", "auroc")
Batch = tuple[list[Tensor], list[Tensor]]


@pytest.fixture
def there(device: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    """Metrics keep and compute what they do on a CUDA device."""
    monkeypatch.setattr(metrics_ops, "merge_bins", registration.TORCH_PATHS["merge_bins"])
    for name in NAMES:
        monkeypatch.setattr(sweep_ops, name, registration.CUDA_KERNELS[name])
        monkeypatch.setattr(OPERATORS, name, registration.CUDA_KERNELS[name])


def batches(count: int = 9, side: int = 40, dtype: torch.dtype = torch.float32) -> list[Batch]:
    made = []
    for i in range(count):
        masks = torch.zeros(2, side, side, dtype=torch.bool)
        if i % 3:
            masks[0, 5:15, 3 : 5 + i] = True
            masks[1, 25:28, :] = True
        scores = (rand(2, side, side, seed=i) + 0.3 * masks) ** 3
        made.append((list(scores.to(dtype)), list(masks)))
    return made


def everything(parts: list[Batch]) -> Batch:
    return [m for maps, _ in parts for m in maps], [m for _, masks in parts for m in masks]


@ONE_ORDER
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16], ids=str)
def test_exact_values_are_those_of_all_at_once(dtype: torch.dtype, there: None) -> None:
    parts = batches(dtype=dtype)
    maps, masks = everything(parts)
    pro, roc, halves = AUPRO(), AUROC(), [AUPRO(), AUPRO()]
    for i, part in enumerate(parts):
        pro.update(*part)
        roc.update(torch.stack(part[0]), torch.stack(part[1]))
        halves[i % 2].update(*part)
    halves[0].merge_state(halves[1])
    expected = OPERATORS.au_pro(maps, masks, 0.3)
    assert torch.equal(pro.compute(), expected)
    assert torch.equal(halves[0].compute(), expected)
    assert torch.equal(roc.compute(), OPERATORS.auroc(torch.stack(maps), torch.stack(masks)))
    floats = {torch.float64 if dtype == torch.float64 else torch.float32}
    assert {t.dtype for t in [*pro.metric_state["negatives"], *roc.metric_state["positives"]]} == floats
    size = 8 if dtype == torch.float64 else 4
    pixels = sum(m.numel() for m in maps)
    assert pro.state_bytes <= size * pixels + 8 * len(pro.metric_state["areas"]) * 100
    assert len(pro.metric_state["negatives"]) <= 5


@ONE_ORDER
def test_exact_spro(there: None) -> None:
    metric, maps, regions, saturations = AUsPRO(), [], [], []
    for scores, masks in batches():
        stacks = [m[None] if m.any() else m[None][:0] for m in masks]
        some = [[int(stack.sum()) // 2] if len(stack) else [] for stack in stacks]
        metric.update(scores, stacks, some)
        maps += scores
        regions += stacks
        saturations += [s for image in some for s in image]
    expected = OPERATORS.au_spro(maps, regions, torch.tensor(saturations), list(metric.limits))
    assert torch.equal(torch.stack(list(metric.compute().values())), expected)
    assert sum(len(t) for t in metric.metric_state["scores"]) == sum(saturations)


@ONE_ORDER
def test_an_exact_metric_without_a_class(there: None) -> None:
    metric = AUROC()
    metric.update(rand(5).float(), torch.ones(5, dtype=torch.bool))
    with pytest.raises(ValueError, match="AUROC: compute: expected at least one negative, got none"):
        metric.compute()
    good = AUPRO()
    good.update(rand(1, 4, 4).float(), torch.zeros(1, 4, 4, dtype=torch.bool))
    with pytest.raises(ValueError, match="AUPRO: compute: expected at least one anomalous region, got none"):
        good.compute()


@pytest.mark.parametrize("kind", ["area", "half", "one", "mixed"])
def test_tops_of_all_regions_at_once(kind: str) -> None:
    areas = torch.tensor([1, 30, 7, 200])
    scores = (rand(238) * 20).round()
    saturations = {
        "area": areas,
        "half": (areas + 1) // 2,
        "one": areas * 0 + 1,
        "mixed": torch.tensor([5, 9, 7, 8]),
    }
    expected = memory_of.keep_tops(scores, areas, saturations[kind])
    found = memory_of._tops_at_once(scores, areas, saturations[kind])
    assert torch.equal(found[1], expected[1])
    for a, b in zip(*(s.split(n.tolist()) for s, n in (found, expected)), strict=True):
        assert torch.equal(a.sort().values, b.sort().values)


# bins

join = metrics_path.merge_bins


@settings(deadline=None, max_examples=100, derandomize=True)
@given(st.data())
def test_bins_bound_the_scores(data: st.DataObject) -> None:
    """However sketches grow and merge."""
    most, relative = data.draw(st.integers(16, 80)), data.draw(st.booleans())
    sketches: list[tuple[Tensor, Tensor]] = []
    share = 0.0
    for step in range(data.draw(st.integers(1, 6))):
        scale, shift = data.draw(st.sampled_from([1.0, 1e-3, -40.0])), data.draw(st.sampled_from([0.0, 0.3]))
        scores = rand(data.draw(st.integers(0, 300)), seed=step) * scale + shift
        if data.draw(st.booleans()):
            scores = (scores * 16).round() / 16
        taken = sketches[: data.draw(st.integers(0, 2))]
        sketch, raised = join([s for s, _ in taken], scores, most, share, relative)
        everything = torch.cat([scores, *(s for _, s in taken)])
        assert sketch.shape[1] <= most
        assert raised >= share
        assert hold(sketch, everything)
        assert bool((sketch[0].diff() <= 0).all())
        ties = sketch[0].diff() == 0
        assert bool((sketch[1].diff()[ties] <= 0).all())
        share = raised
        sketches = [(sketch, everything), *sketches[len(taken) :]]


@pytest.mark.parametrize("relative", [False, True])
def test_joined_bins_keep_to_the_share(relative: bool) -> None:
    """Also where sketches merge: bins of several scores weigh a share of all at most, or of those above."""
    parts = [rand(4000, seed=i) ** 3 for i in range(4)]
    sketches = [join([], part, 300, 0.0, relative) for part in parts]
    share = max(s for _, s in sketches)
    sketch, raised = join([s for s, _ in sketches], rand(0), 300, share, relative)
    keys = to_order(torch.cat(parts))
    joined = sketch[:, sketch[0] > sketch[1]]
    assert joined.shape[1] > 50
    above = torch.stack([(keys > hi).sum() for hi in joined[0]]) if relative else len(keys)
    assert bool((joined[2] <= raised * above).all())


def test_few_distinct_scores_stay_exact() -> None:
    scores = (rand(100_000) * 50).floor()
    sketch, share = join([], scores, 60, 0.0, True)
    assert share == 0
    assert torch.equal(sketch, OPERATORS.merge_bins([], scores, 60, 0.0, True)[0])


@pytest.mark.parametrize(
    "scores", [[-1.0, 1.0], [-0.0, 0.0], [-torch.inf, torch.inf, 0.0], [5e-324, -5e-324]], ids=str
)
def test_scores_of_both_signs(scores: list[float]) -> None:
    """The block of all holds them, wherever they are."""
    one, share = join([], torch.tensor(scores * 9, dtype=torch.float64), 16, 3.0, False)
    assert one.shape == (3, 1)
    keys = to_order(torch.tensor(scores, dtype=torch.float64))
    assert one.flatten().tolist() == [int(keys.max()), int(keys.min()), 9 * len(scores)]
    again, _ = join([one, one], torch.tensor(scores, dtype=torch.float64), 16, share, False)
    assert again.flatten().tolist() == [int(keys.max()), int(keys.min()), 19 * len(scores)]


@ONE_ORDER
def test_refusals(device: ModuleType) -> None:
    kernel = registration.TORCH_PATHS["merge_bins"]
    good = join([], rand(50), 16, 0.0, True)[0]
    empty = torch.empty((3, 0), dtype=torch.int64)
    assert kernel([], torch.empty(0), 16, 0.5, True)[0].shape == (3, 0)
    assert torch.equal(kernel([good, empty], torch.empty(0), 16, 0.0, True)[0], good)
    heavy = good.clone()
    heavy[2, :3] = 2**62
    for bad in (good.flip(1), -good, heavy, good * torch.tensor([[1], [1], [0]]), good[[1, 0, 2]]):
        with pytest.raises(ValueError, match="merge_bins: expected bins as merge_bins makes them"):
            kernel([good, bad], rand(3), 16, 0.0, True)
    with pytest.raises(ValueError, match="merge_bins: scores: expected numbers, got NaN"):
        kernel([good], torch.tensor([torch.nan]), 16, 0.0, True)


@ONE_ORDER
@pytest.mark.parametrize("merged", [False, True])
def test_bounds_are_no_wider_than_on_the_cpu(
    merged: bool, device: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    parts = batches(40, 100)
    exact = AUPRO()
    for part in parts:
        exact.update(*part)

    def bounded() -> Any:
        metrics = [AUPRO(exact=False, memory=1_000_000) for _ in range(4 if merged else 1)]
        for i, part in enumerate(parts):
            metrics[i % len(metrics)].update(*part)
        for other in metrics[1:]:
            metrics[0].merge_state(other)
        low, high = metrics[0].bounds()
        metrics[0].compute()
        assert low <= exact.compute() <= high
        assert metrics[0].state_bytes <= 1_000_000
        return metrics[0].error_bound

    on_cpu = bounded()
    monkeypatch.setattr(metrics_ops, "merge_bins", registration.TORCH_PATHS["merge_bins"])
    assert bounded() <= on_cpu
