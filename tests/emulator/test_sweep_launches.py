"""What the sweeps start on the device: kernels of ours, of CUB and of PyTorch, as docs/cuda.md says."""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType
from typing import Any

import torch
from support.sweep_kernels import ONE_ORDER, rand
from torch.utils._python_dispatch import TorchDispatchMode

from thfr_ext.sweep import cuda as sweep_cuda

#: operations that start no kernel: memory and views of it
FREE = {
    "empty",
    "new_empty",
    "empty_like",
    "view",
    "unsqueeze",
    "select",
    "slice",
    "split_with_sizes",
    "detach",
}


class Started(TorchDispatchMode):
    """Names of PyTorch's operations that start something on the device."""

    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.overloadpacket.__name__
        if name not in FREE:
            self.names.append(name)
        return func(*args, **(kwargs or {}))


@ONE_ORDER
def test_launches(device: ModuleType) -> None:
    maps = [rand(40, 51, seed=i).float() for i in range(4)]
    regions = [rand(2, 40, 51, seed=i + 9) < 0.1 for i in range(4)]
    halves, bfloats = ([m.to(t) for m in maps] for t in (torch.float16, torch.bfloat16))
    masks, flat = [r.any(0) for r in regions], torch.full((8,), 50)
    #: launches of ours; running sums, sorts and passes of sorts by CUB
    calls: dict[str, tuple[Callable[[], Any], tuple[int, ...]]] = {
        "au_spro": (lambda: sweep_cuda.au_spro(maps, regions, flat, [0.05, 0.3]), (9, 4, 2, 5)),
        "au_spro, fp16": (lambda: sweep_cuda.au_spro(halves, regions, flat, [0.05, 0.3]), (9, 4, 2, 4)),
        "au_spro, bf16": (lambda: sweep_cuda.au_spro(bfloats, regions, flat, [0.05, 0.3]), (9, 4, 2, 3)),
        "au_pro": (lambda: sweep_cuda.au_pro(maps, masks, 0.3), (14, 5, 2, 6)),
        "auroc": (lambda: sweep_cuda.auroc(maps[0], masks[0]), (9, 3, 1, 4)),
    }
    for call, expected in calls.values():
        device.statistics()
        with Started() as started:
            call()
        library = device.library()
        assert (device.statistics()[0], *library) == expected
        assert not started.names
