"""Where native CUDA kernels are launched: the module that has them, the device and its stream."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from thfr_ext import _C

#: has the ``cuda_*`` functions; the tests put the emulator's module in its place
native: Any = _C


@contextmanager
def on_device_of(tensor: Tensor) -> Iterator[int]:
    """The device of ``tensor`` is the current one; gives the address of torch's current stream there."""
    with torch.cuda.device(tensor.device):
        # Our runtime is linked statically and has a current device of its own: 0 in a fresh thread.
        native.cuda_set_device(tensor.get_device())
        yield torch.cuda.current_stream(tensor.device).cuda_stream
