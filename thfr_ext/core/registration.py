"""Registration of the operators with torch: one library, and the choice of backend on CUDA."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable
from typing import Any

import torch

from thfr_ext import _C

LIBRARY = torch.library.Library("thfr_ext", "DEF")

#: operator -> backend, filled by :func:`register`
BACKENDS: dict[str, dict[str, str]] = {}

#: operator -> its native CUDA kernel, whether in use or not
CUDA_KERNELS: dict[str, Callable[..., Any]] = {}


def cuda_backend() -> str:
    """``reference`` or ``native``: what CUDA tensors run on.

    The plain PyTorch reference is the default until the kernels have been proved on a device;
    ``THFR_CUDA_BACKEND=native`` chooses the kernels that are built.

    Raises:
        ValueError: the variable holds something else, or native kernels are asked for and not built.
    """
    wanted = os.environ.get("THFR_CUDA_BACKEND", "reference")
    if wanted not in ("reference", "native"):
        raise ValueError(f"thfr_ext: THFR_CUDA_BACKEND: expected reference or native, got {wanted!r}")
    if wanted == "native" and not _C.build_facts()["cuda_built"]:
        raise ValueError("thfr_ext: THFR_CUDA_BACKEND: native asked for, but this build has no CUDA kernels")
    return wanted


def _refuse_none(name: str, operator: Any, kernel: Callable[..., Any]) -> Callable[..., Any]:
    """``kernel`` behind a check that torch leaves out: a schema's ``Tensor`` takes None too."""
    arguments = [a.name for a in operator._schema.arguments]
    tensors = [i for i, a in enumerate(operator._schema.arguments) if str(a.type) == "Tensor"]

    @functools.wraps(kernel)
    def checked(*given: Any) -> Any:
        for i in tensors:
            if given[i] is None:
                raise TypeError(f"{name}: {arguments[i]}: expected a tensor, got None")
        return kernel(*given)

    return checked


def register(
    name: str,
    schema: str,
    *,
    cpu: Callable[..., Any],
    cuda_reference: Callable[..., Any],
    fake: Callable[..., Any],
    cuda_native: Callable[..., Any] | None = None,
) -> None:
    """Define ``thfr_ext::name`` with its kernels.

    Args:
        schema: arguments and results, as in ``(Tensor x) -> Tensor``.
        cpu: native kernel for CPU tensors.
        cuda_reference: plain PyTorch twin, for CUDA tensors.
        fake: shapes and dtypes only, for torch.compile and torch.export.
        cuda_native: CUDA kernel, if there is one; used as :func:`cuda_backend` says.
    """
    native = cuda_native is not None and cuda_backend() == "native"
    if cuda_native is not None:
        CUDA_KERNELS[name] = cuda_native
    LIBRARY.define(name + schema)
    operator = getattr(torch.ops.thfr_ext, name).default

    def complete(kernel: Callable[..., Any]) -> Callable[..., Any]:
        return _refuse_none(name, operator, kernel)

    LIBRARY.impl(name, complete(cpu), "CPU")
    LIBRARY.impl(name, complete(cuda_native if native and cuda_native else cuda_reference), "CUDA")
    torch.library.register_fake(f"thfr_ext::{name}", complete(fake), lib=LIBRARY)
    BACKENDS[name] = {"cpu": "native", "cuda": "native" if native else "reference"}
