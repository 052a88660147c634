"""Registration of the operators with torch: one library, and the choice of backend on CUDA."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import torch

from thfr_ext import _C

LIBRARY = torch.library.Library("thfr_ext", "DEF")

#: operator -> backend, filled by :func:`register`
BACKENDS: dict[str, dict[str, str]] = {}


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
    LIBRARY.define(name + schema)
    LIBRARY.impl(name, cpu, "CPU")
    LIBRARY.impl(name, cuda_native if native else cuda_reference, "CUDA")
    torch.library.register_fake(f"thfr_ext::{name}", fake, lib=LIBRARY)
    BACKENDS[name] = {"cpu": "native", "cuda": "native" if native else "reference"}
