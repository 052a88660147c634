"""Metrics as on a CUDA device: scores from the kernels."""

from __future__ import annotations

from types import ModuleType

import pytest
import torch
from support.sweep_kernels import ONE_ORDER, rand
from torch import Tensor

from thfr_ext.core import registration
from thfr_ext.metrics import AUPRO, AUROC, AUsPRO
from thfr_ext.metrics import memory as memory_of
from thfr_ext.sweep import ops as sweep_ops

OPERATORS = torch.ops.thfr_ext
NAMES = ("component_samples", "region_samples", "au_pro", "au_spro", "spro_area", "auroc")
Batch = tuple[list[Tensor], list[Tensor]]


@pytest.fixture
def there(device: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    """Metrics keep and compute what they do on a CUDA device."""
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
