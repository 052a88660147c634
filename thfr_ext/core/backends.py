"""Which implementation CUDA tensors run: the kernels, or PyTorch operations. Chosen at each call.

``THFR_CUDA_BACKEND``:

- ``auto`` (the default): the kernel where :func:`thfr_ext.self_check` has found it right and faster on this
  very GPU with this build, driver and torch; PyTorch operations elsewhere.
- ``native``: the kernels, checked or not.
- ``torch``: PyTorch operations.
- ``shadow``: both, and an error if they disagree; the result is that of the PyTorch operations.
"""

from __future__ import annotations

import functools
import os
import warnings
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor

from thfr_ext import _C

MODES = ("auto", "native", "torch", "shadow")
Kernel = Callable[..., Any]

#: messages that were given
_said: set[str] = set()


def mode() -> str:
    """What ``THFR_CUDA_BACKEND`` asks for.

    Raises:
        ValueError: it holds something else.
    """
    wanted = os.environ.get("THFR_CUDA_BACKEND", "auto")
    if wanted not in MODES:
        raise ValueError(f"thfr_ext: THFR_CUDA_BACKEND: expected one of {', '.join(MODES)}, got {wanted!r}")
    return wanted


def say_once(message: str) -> None:
    """A warning, the first time."""
    if message not in _said:
        _said.add(message)
        warnings.warn(f"thfr_ext: {message}", stacklevel=2)


@functools.cache
def _shown() -> dict[str, Any]:
    return _C.cuda_devices()


def unusable(device: torch.device) -> str:
    """Why this build's kernels cannot run on a device; empty if they can."""
    built = _C.build_info()
    if not built["cuda_built"]:
        return "this build has no CUDA kernels"
    shown = _shown()
    if shown["problem"]:
        # Such as a driver that is older than the runtime linked into this build.
        return f"the CUDA {built['cuda_version']} kernels of this build cannot run: {shown['problem']}"
    properties = torch.cuda.get_device_properties(device)
    capability = (properties.major, properties.minor)
    alike = [d for d in shown["devices"] if tuple(d["capability"]) == capability]
    if alike and all(d["runnable"] for d in alike):
        return ""
    return (
        f"this build's kernels are for {built['cuda_archs']}, not for {properties.name} "
        f"({capability[0]}.{capability[1]})"
    )


def _index(device: torch.device) -> torch.device:
    return device if device.index is not None else torch.device("cuda", torch.cuda.current_device())


_unusable = functools.cache(unusable)


def choose(name: str, has_kernel: bool, device: torch.device) -> str:
    """``native``, ``torch`` or ``shadow`` for an operator on a device.

    Raises:
        ValueError: THFR_CUDA_BACKEND holds something else, or asks for kernels that cannot run there.
    """
    wanted = mode()
    if wanted == "torch" or not has_kernel:
        return "torch"
    device = _index(device)
    why_not = _unusable(device)
    if wanted != "auto":
        if why_not:
            raise ValueError(f"thfr_ext: THFR_CUDA_BACKEND={wanted}: {why_not}")
        return wanted
    if why_not:
        say_once(f"{why_not}; PyTorch operations run instead")
        return "torch"
    from thfr_ext.core import verdicts

    found = verdicts.of(device)
    if found is None:
        say_once(
            f"the CUDA kernels were not checked on {torch.cuda.get_device_name(device)} with this build, "
            "driver and torch, so PyTorch operations run instead; `thfr doctor --gpu` or "
            "thfr_ext.self_check() checks them"
        )
        return "torch"
    return "native" if verdicts.good(found.get(name)) else "torch"


def _first_device(arguments: Iterable[Any]) -> torch.device:
    for value in arguments:
        if isinstance(value, Tensor):
            return value.device
        if isinstance(value, (list, tuple)) and value and isinstance(value[0], Tensor):
            return value[0].device  # type: ignore[no-any-return]
    raise TypeError("thfr_ext: expected a tensor among the arguments")


def kernel(name: str, native: Kernel | None, torch_path: Kernel, device: torch.device) -> Kernel:
    """What an operator runs on a device."""
    chosen = choose(name, native is not None, device)
    if chosen == "torch" or native is None:
        return torch_path
    return native if chosen == "native" else functools.partial(_both, name, native, torch_path)


def _both(name: str, native: Kernel, torch_path: Kernel, *arguments: Any) -> Any:
    from thfr_ext.core.agreement import disagreement

    if torch.cuda.is_available() and torch.cuda.is_current_stream_capturing():
        raise RuntimeError(f"{name}: THFR_CUDA_BACKEND=shadow cannot compare while a CUDA graph is captured")
    expected, found = (_outcome(call, arguments) for call in (torch_path, native))
    wrong = disagreement(name, found, expected)
    if wrong:
        raise RuntimeError(f"{name}: THFR_CUDA_BACKEND=shadow: the kernel and PyTorch disagree: {wrong}")
    if isinstance(expected, Exception):
        raise expected
    return expected


def _outcome(call: Kernel, arguments: tuple[Any, ...]) -> Any:
    try:
        return call(*arguments)
    except (ValueError, TypeError) as error:
        return error


def dispatcher(name: str, native: Kernel | None, torch_path: Kernel) -> Kernel:
    """The function that is registered for CUDA."""
    if native is None:
        return torch_path

    def run(*arguments: Any) -> Any:
        return kernel(name, native, torch_path, _first_device(arguments))(*arguments)

    return run
