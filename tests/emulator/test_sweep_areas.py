"""Areas on the emulated device: sums beyond 64 bits, any order of threads, NaN, refusals, waits, launches."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any

import pytest
import torch
from support.sweep_kernels import DTYPES, LIMITS, ONE_ORDER, rand, set_of
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

import thfr_ext
from thfr_ext.core import registration
from thfr_ext.core.tensors import view
from thfr_ext.sweep import cuda as sweep_cuda

OPERATORS = torch.ops.thfr_ext


def test_pairs_beyond_64_bits(device: ModuleType) -> None:
    """Sums past 2^64, rounded once, to the nearest."""
    for others in (2**61 + 1, 2**62 - 1, 3**38):
        for few in (1, 3, 7, 1000):
            rank = torch.ones(few, dtype=torch.int64)
            sums = torch.zeros(2 * few + 1, dtype=torch.int64)
            sums[few:] = 0
            sums[2 * few] = others
            for positives in (False, True):
                if positives:
                    sums[:] = others
                total, flag = torch.zeros(2, dtype=torch.int64), torch.zeros(1, dtype=torch.int64)
                area = torch.empty(1, dtype=torch.float64)
                pairs = float(few * others)
                device.cuda_rank_area(
                    view(rank), view(sums), positives, pairs, view(total), view(flag), view(area), 0
                )
                assert float(area) == float(2 * few * others) / (2 * pairs)
                assert int(total[0]) + 2**32 * int(total[1]) == 2 * few * others


@ONE_ORDER
def test_the_same_bits_in_any_order(device: ModuleType) -> None:
    """Of threads, blocks, images, regions."""
    maps, regions, saturations = set_of("tied", torch.float32, saturation="mixed")
    masks = [r.any(0) for r in regions]
    device.set_options()
    spro, pro = sweep_cuda.au_spro(maps, regions, saturations, LIMITS), sweep_cuda.au_pro(maps, masks, 0.3)
    back = [r.flip(0) for r in regions[::-1]]
    for seed in range(1, 5):
        device.set_options(seed=seed)
        assert torch.equal(sweep_cuda.au_spro(maps, regions, saturations, LIMITS), spro)
        assert torch.equal(sweep_cuda.au_spro(maps[::-1], back, saturations.flip(0), LIMITS), spro)
        assert torch.equal(sweep_cuda.au_pro(maps[::-1], masks[::-1], 0.3), pro)


# NaN, refusals


@ONE_ORDER
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("inside", [False, True])
def test_nan(inside: bool, dtype: torch.dtype, device: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    """An operator that does not wait gives NaN; the function that reads it says where."""
    maps, regions, saturations = set_of("random", dtype)
    masks = [r.any(0) for r in regions]
    labels = torch.zeros_like(maps[2], dtype=torch.bool)
    labels[:9] = True
    place = tuple((masks[2] == inside).nonzero()[7])
    maps[2][place] = -torch.nan
    assert sweep_cuda.au_spro(maps, regions, saturations, LIMITS).isnan().all()
    assert sweep_cuda.au_pro(maps, masks, 0.3).isnan()
    assert sweep_cuda.auroc(maps[2], labels).isnan()
    for samples, others in ((sweep_cuda.region_samples, regions), (sweep_cuda.component_samples, masks)):
        with pytest.raises(ValueError, match=r"_samples: maps: expected numbers, got NaN in image 2 of 4"):
            samples(maps, others)
    for name in ("au_spro", "au_pro", "auroc"):
        monkeypatch.setattr(OPERATORS, name, getattr(sweep_cuda, name))
    in_lists = [[int(s) for s in part] for part in saturations.split([len(r) for r in regions])]
    with pytest.raises(ValueError, match=r"^au_spro: maps: expected numbers, got NaN in image 2 of 4"):
        thfr_ext.au_spro(maps, regions, in_lists)
    with pytest.raises(ValueError, match=r"^au_pro: maps: expected numbers, got NaN in image 2 of 4"):
        thfr_ext.au_pro(maps, masks)
    with pytest.raises(ValueError, match=r"^auroc: scores: expected numbers, got NaN"):
        thfr_ext.auroc(maps[2], labels)


def refusal(call: Callable[..., Any], arguments: tuple[Any, ...]) -> tuple[type, str]:
    with pytest.raises((ValueError, TypeError)) as error:
        call(*arguments)
    return type(error.value), str(error.value)


def test_refusals_are_those_of_the_cpu(device: ModuleType) -> None:
    maps, regions, saturations = set_of("random", torch.float32)
    masks, scores, labels = [r.any(0) for r in regions], rand(50).float(), rand(50) < 0.5
    low, blank = saturations.clone(), [r.clone() for r in regions]
    low[3] = 0
    blank[2][1] = False
    nan = [m * torch.nan for m in maps]
    full = [torch.ones_like(m) for m in masks]
    cases: dict[str, list[tuple[Any, ...]]] = {
        "au_spro": [
            ([], [], saturations, LIMITS),
            (maps, regions, low, LIMITS),
            (maps, blank, saturations, LIMITS),
            (maps, regions, saturations[1:], LIMITS),
            (maps, regions, saturations, [0.0]),
            (maps, regions, saturations, []),
            (maps[:2], [full[0][None], full[1][None]], saturations[:2], LIMITS),
            (nan[:2], [full[0][None], full[1][None]], saturations[:2], LIMITS),
            (maps[:1], [regions[0][:0]], saturations[:0], LIMITS),
        ],
        "au_pro": [
            (maps, full, 0.3),
            (nan, full, 0.3),
            (maps, [torch.zeros_like(m) for m in masks], 0.3),
            (maps, masks, 2.0),
            (maps, masks[1:], 0.3),
        ],
        "auroc": [
            (scores, labels | True),
            (scores, labels & False),
            (scores[:0], labels[:0]),
            (scores * torch.nan, labels & False),
            (scores, labels.int()),
            (scores[1:], labels),
        ],
        "region_samples": [(maps, blank), (nan, regions), (maps, masks)],
        "component_samples": [(nan, masks), (maps, regions)],
        "spro_curve": [(maps, regions, low), (nan, regions, saturations), (maps, blank, saturations)],
        "pro_curve": [(maps, full), (nan, masks), (maps, [m & False for m in masks])],
    }
    for name, given_arguments in cases.items():
        kernel = registration.CUDA_KERNELS[name]
        for arguments in given_arguments:
            expected = refusal(getattr(OPERATORS, name), arguments)
            assert refusal(kernel, arguments) == expected


# waits and launches


WAITS = "_local_scalar_dense is_nonzero equal nonzero _unique2 masked_select repeat_interleave"


class NoWait(TorchDispatchMode):
    """Refuses operations that wait for a device: for a value on the host, or for the shape of a result."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.overloadpacket.__name__
        assert name not in WAITS.split()
        assert name != "index" or not any(i is not None and i.dtype == torch.bool for i in args[1])
        return func(*args, **(kwargs or {}))


@contextmanager
def transfers(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """The lengths of what is brought to the host."""
    found: list[int] = []
    tolist = Tensor.tolist
    with monkeypatch.context() as patch, NoWait():
        patch.setattr(Tensor, "tolist", lambda self: found.append(self.numel()) or tolist(self))
        yield found


def test_one_transfer(device: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    maps, regions, saturations = set_of("random", torch.float32)
    masks = [r.any(0) for r in regions]
    scores, offsets, high = rand(900).float(), torch.tensor([0, 1, 500, 900]), 99 * saturations
    calls: dict[str, tuple[Callable[[], Any], int]] = {
        "au_spro": (lambda: sweep_cuda.au_spro(maps, regions, saturations, LIMITS), 9),
        "au_spro, high": (lambda: sweep_cuda.au_spro(maps, regions, high, LIMITS), 9),
        "au_pro": (lambda: sweep_cuda.au_pro(maps, masks, 0.3), 14),
        "auroc": (lambda: sweep_cuda.auroc(maps[0], masks[0]), 9),
        "spro_area": (lambda: sweep_cuda.spro_area(scores, scores, offsets, offsets.diff(), LIMITS), 7),
        "region_samples": (lambda: sweep_cuda.region_samples(maps, regions), 5),
        "component_samples": (lambda: sweep_cuda.component_samples(maps, masks), 10),
    }  # fmt: skip
    for call, launches in calls.values():
        device.statistics()
        with transfers(monkeypatch) as found:
            call()
        assert len(found) == 1
        assert found[0] <= 7
        assert device.statistics()[0] == launches
