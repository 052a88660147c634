"""Metrics fed in batches: exact, mergeable, with torchmetrics' interface and without torchmetrics."""

from __future__ import annotations

import pickle
import subprocess
import sys
from typing import Any

import pytest
import torch
from support.device import CPU

import thfr_ext
from thfr_ext.metrics import AUPRO, AUROC, AUsPRO
from thfr_ext.metrics import memory as memory_of

pytestmark = pytest.mark.usefixtures("device")

GENERATOR = torch.Generator().manual_seed(0)
MAPS = (torch.rand(9, 20, 24, generator=GENERATOR) * 200).floor()
MASKS = (
    torch.nn.functional.max_pool2d((torch.rand(9, 20, 24, generator=GENERATOR) < 0.01).float(), 3, 1, 1) > 0
)
MASKS[:2] = False
REGIONS = [torch.stack([m, m.flip(0)]) if m.any() else m.expand(0, -1, -1) for m in MASKS]
SATURATIONS = [[3, 1000][: len(r)] for r in REGIONS]

BATCHES: dict[type, Any] = {
    AUPRO: lambda part: (MAPS[part], MASKS[part]),
    AUsPRO: lambda part: (list(MAPS[part]), REGIONS[part], SATURATIONS[part]),
    AUROC: lambda part: (MAPS[part], MASKS[part]),
}
METRICS = pytest.mark.parametrize("kind", BATCHES)


def whole(kind: type) -> Any:
    everything = BATCHES[kind](slice(None))
    return {AUPRO: thfr_ext.au_pro, AUsPRO: thfr_ext.au_spro, AUROC: thfr_ext.auroc}[kind](*everything)


def value(metric: Any) -> Any:
    result = metric.compute() if isinstance(metric, torch.nn.Module) else metric
    return {k: v.item() for k, v in result.items()} if isinstance(result, dict) else result.item()


@METRICS
@pytest.mark.parametrize("order", [[(0, 9)], [(0, 4), (4, 9)], [(6, 9), (2, 3), (3, 6), (0, 2)]], ids=str)
def test_batches_give_the_value_of_the_whole(kind: type, order: list[tuple[int, int]]) -> None:
    metric = kind()
    for begin, end in order:
        metric.update(*BATCHES[kind](slice(begin, end)))
    assert value(metric) == whole(kind)
    assert metric.update_count == len(order)
    assert value(metric) == whole(kind)  # computing takes nothing away


@METRICS
def test_merging_gives_the_value_of_the_whole(kind: type) -> None:
    for first, second in ((0, 1), (1, 0)):
        metrics = [kind(), kind()]
        for metric, part in zip(metrics, (slice(0, 5), slice(5, 9)), strict=True):
            metric.update(*BATCHES[kind](part))
        metrics[first].merge_state(metrics[second])
        assert value(metrics[first]) == whole(kind)
    by_state = kind()
    by_state.merge_state(metrics[1].metric_state)
    assert value(by_state) == whole(kind)


@METRICS
def test_forward_gives_the_value_of_the_batch(kind: type) -> None:
    metric, alone = kind(), kind()
    nothing = value(metric(*BATCHES[kind](slice(0, 2))))
    assert all(v != v for v in (nothing.values() if isinstance(nothing, dict) else [nothing]))  # NaN
    alone.update(*BATCHES[kind](slice(2, 9)))
    assert value(metric(*BATCHES[kind](slice(2, 9)))) == value(alone)
    assert value(metric) == whole(kind)


@METRICS
def test_reset_clone_and_pickle(kind: type) -> None:
    metric = kind()
    with pytest.raises(ValueError, match=rf"^{kind.__name__}: compute: expected at least one update before"):
        metric.compute()
    metric.update(*BATCHES[kind](slice(None)))
    assert value(metric.clone()) == value(pickle.loads(pickle.dumps(metric))) == whole(kind)
    metric.reset()
    assert not metric.update_called
    metric.update(*BATCHES[kind](slice(0, 2)))
    with pytest.raises(
        ValueError, match=rf"^{kind.__name__}: compute: expected at least one (anomalous|positive)"
    ):
        metric.compute()
    metric.reset()
    metric.update(*BATCHES[kind](slice(None)))
    assert value(metric) == whole(kind)


@METRICS
def test_state_dict(kind: type) -> None:
    metric, other = kind(), kind()
    metric.update(*BATCHES[kind](slice(None)))
    assert metric.state_dict() == {}
    metric.persistent(True)
    outer, target = torch.nn.ModuleDict({"m": metric}), torch.nn.ModuleDict({"m": other})
    target.load_state_dict(outer.state_dict())
    assert value(other) == whole(kind)


@METRICS
def test_moves_and_casts_do_not_round(kind: type) -> None:
    metric = kind()
    metric.update(*BATCHES[kind](slice(None)))
    assert value(metric.half().to("cpu").float()) == whole(kind)
    assert metric.device == torch.device("cpu")


@METRICS
def test_keyword_arguments(kind: type) -> None:
    names = {
        AUPRO: ["maps", "masks"],
        AUsPRO: ["maps", "regions", "saturations"],
        AUROC: ["scores", "labels"],
    }[kind]
    metric = kind()
    metric(**dict(zip(names, BATCHES[kind](slice(None)), strict=True)))
    assert value(metric) == whole(kind)


def test_options() -> None:
    metric = AUPRO(limit=0.1)
    metric.update(MAPS, MASKS)
    assert value(metric) == thfr_ext.au_pro(MAPS, MASKS, 0.1)
    with pytest.raises(ValueError, match=r"AUPRO: limit: expected a number in \(0, 1\]"):
        AUPRO(limit=2)
    with pytest.raises(ValueError, match="AUsPRO: limits: expected at least one"):
        AUsPRO(limits=[])
    assert list(AUsPRO(limits=(0.2, 0.7)).limits) == [0.2, 0.7]


def test_dtypes_may_differ_between_batches() -> None:
    metric = AUPRO()
    metric.update(MAPS[:5].half(), MASKS[:5])  # whole numbers up to 200: exact in fp16
    metric.update(MAPS[5:].double(), MASKS[5:])
    assert value(metric) == thfr_ext.au_pro(MAPS, MASKS)


def test_wrong_batches_leave_the_metric_as_it_was() -> None:
    metric = AUPRO()
    metric.update(MAPS[:5], MASKS[:5])
    bad = MAPS[5:].clone()
    bad[1, 0, 0] = torch.nan
    for maps, masks, message in (
        (bad, MASKS[5:], "AUPRO: maps: expected numbers, got NaN in image 1 of 4"),
        (MAPS[5:], MASKS[5:, :4], "AUPRO: masks: image 0: expected"),
        (MAPS[5:6], MASKS[5:], "AUPRO: masks: expected one for each of the 1 images"),
    ):
        with pytest.raises(ValueError, match=message):
            metric.update(maps, masks)
    metric.update(MAPS[5:], MASKS[5:])
    assert value(metric) == whole(AUPRO)
    with pytest.raises(ValueError, match="AUPRO: merge_state: expected a AUPRO, got AUROC"):
        metric.merge_state(AUROC())
    with pytest.raises(
        ValueError, match="AUPRO: merge_state: expected states negatives, scores, areas, got x"
    ):
        metric.merge_state({"x": []})


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16], ids=str)
def test_what_exact_metrics_keep(dtype: torch.dtype) -> None:
    """Scores no wider than they must be, in few pieces; of sPRO no more than saturations ask for."""
    pro, spro, roc = AUPRO(), AUsPRO(), AUROC()
    for part in (slice(i, i + 1) for i in range(9)):
        pro.update(MAPS[part].to(dtype), MASKS[part])
        spro.update(list(MAPS[part].to(dtype)), REGIONS[part], SATURATIONS[part])
        roc.update(MAPS[part].to(dtype), MASKS[part])
    wide = torch.float64 if dtype == torch.float64 else torch.float32
    assert {t.dtype for t in [*pro.metric_state["negatives"], *roc.metric_state["positives"]]} == {wide}
    assert pro.state_bytes <= wide.itemsize * MAPS.numel() + 8 * len(pro.metric_state["areas"]) * 100
    assert len(pro.metric_state["negatives"]) <= 5
    areas = [int(region.sum()) for stack in REGIONS for region in stack]
    saturations = [s for image in SATURATIONS for s in image]
    kept = sum(min(a, s) for a, s in zip(areas, saturations, strict=True))
    assert sum(len(t) for t in spro.metric_state["scores"]) == kept
    assert [value(pro), value(spro), value(roc)] == [whole(kind) for kind in BATCHES]


@pytest.mark.parametrize("kind", ["area", "half", "one", "mixed"])
def test_tops_of_all_regions_at_once(kind: str) -> None:
    areas = torch.tensor([1, 30, 7, 200])
    scores = (torch.rand(238, generator=torch.Generator().manual_seed(0)) * 20).round()
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


@CPU
def test_torchmetrics_is_not_needed() -> None:
    code = (
        "import sys; sys.modules['torchmetrics'] = None; import torch, thfr_ext;"
        "m = thfr_ext.metrics.AUROC();"
        "m.update(torch.tensor([1., 2.]), torch.tensor([0, 1])); assert m.compute() == 1"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=100)


def test_torchmetrics_takes_them() -> None:
    from thfr.backbones.torchvision_guard import guard_torchvision

    guard_torchvision()  # torchmetrics imports torchvision
    torchmetrics = pytest.importorskip("torchmetrics")
    metrics = torchmetrics.MetricCollection([AUPRO(), AUROC()], prefix="test_")
    for part in (slice(0, 4), slice(4, 9)):
        metrics.update(MAPS[part], MASKS[part])
    expected = {"test_AUPRO": whole(AUPRO), "test_AUROC": whole(AUROC)}
    assert {k: v.item() for k, v in metrics.compute().items()} == expected
    assert isinstance(metrics["AUPRO"], torchmetrics.Metric)
    metrics.reset()
    assert {k: v.item() for k, v in metrics(MAPS, MASKS).items()} == expected
    assert {k: v.item() for k, v in metrics.clone(prefix="val_").compute().items()} == {
        k.replace("test_", "val_"): v for k, v in expected.items()
    }
    single = torchmetrics.MetricCollection(AUsPRO())
    single.update(list(MAPS), REGIONS, SATURATIONS)
    assert {k: v.item() for k, v in single.compute().items()} == whole(AUsPRO)
    reference = torchmetrics.AUROC(task="binary")
    reference.update((MAPS / 200).flatten(), MASKS.flatten().int())
    assert reference.compute().item() == pytest.approx(whole(AUROC), abs=1e-6)


WORKER = """
import sys, torch
from thfr_ext.metrics import AUPRO
rank, store, data = int(sys.argv[1]), sys.argv[2], torch.load(sys.argv[3])
torch.distributed.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=2)
metric, local, bounded = AUPRO(), AUPRO(sync_on_compute=False), AUPRO(exact=False)
part = slice(0, 5) if rank else slice(5, 9)
for m in (metric, local, bounded):
    m.update(data["maps"][part], data["masks"][part])
low, high = bounded.bounds()
print(metric.compute().item().hex(), local.compute().item().hex(), low.item(), high.item())
torch.distributed.destroy_process_group()
"""


@CPU
@pytest.mark.skipif(not torch.distributed.is_available(), reason="torch has no distributed")
def test_processes_join_in_compute(tmp_path: Any) -> None:
    torch.save({"maps": MAPS, "masks": MASKS}, tmp_path / "data.pt")
    command = [sys.executable, "-c", WORKER]
    processes = [
        subprocess.Popen(
            [*command, str(rank), str(tmp_path / "store"), str(tmp_path / "data.pt")],
            stdout=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    lines = [process.communicate(timeout=100)[0].split() for process in processes]
    assert [process.returncode for process in processes] == [0, 0]
    assert {line[0] for line in lines} == {whole(AUPRO).hex()}
    assert len({line[1] for line in lines}) == 2
    for line in lines:
        assert float(line[2]) <= whole(AUPRO) <= float(line[3]) <= float(line[2]) + 1e-10
