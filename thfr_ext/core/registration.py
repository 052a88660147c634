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

#: operator -> its native CUDA kernel with its checks, whether in use or not
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


def _require_tensors(name: str, operator: Any, given: tuple[Any, ...]) -> None:
    """Raises TypeError if a ``Tensor`` argument is None, which torch lets through."""
    for argument, value in zip(operator._schema.arguments, given, strict=False):
        if value is None and str(argument.type) == "Tensor":
            raise TypeError(f"{name}: {argument.name}: expected a tensor, got None")


def register(
    name: str,
    schema: str,
    *,
    check: Callable[..., None],
    cpu: Callable[..., Any],
    reference: Callable[..., Any],
    fake: Callable[..., Any],
    cuda: Callable[..., Any] | None = None,
) -> Any:
    """Define ``thfr_ext::name`` with its kernels, each of which runs after ``check``.

    Args:
        schema: arguments and results, as in ``(Tensor x) -> Tensor``.
        check: raises ValueError or TypeError unless shapes, dtypes, devices and options fit. It takes the
            operator's arguments, reads no data, and looks at an attribute of every tensor.
        cpu: native kernel for CPU tensors.
        reference: plain PyTorch twin, for CUDA tensors.
        fake: shapes and dtypes only, for torch.compile and torch.export.
        cuda: native CUDA kernel, if there is one; used as :func:`cuda_backend` says.

    Returns:
        The operator, ``torch.ops.thfr_ext.name.default``.
    """
    LIBRARY.define(name + schema)
    operator = getattr(torch.ops.thfr_ext, name).default

    def checked(kernel: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(kernel)
        def run(*given: Any) -> Any:
            try:
                check(*given)
            except AttributeError:  # of None
                _require_tensors(name, operator, given)
                raise
            return kernel(*given)

        return run

    native = cuda is not None and cuda_backend() == "native"
    if cuda is not None:
        CUDA_KERNELS[name] = checked(cuda)
    LIBRARY.impl(name, checked(cpu), "CPU")
    LIBRARY.impl(name, CUDA_KERNELS[name] if native else checked(reference), "CUDA")
    torch.library.register_fake(f"thfr_ext::{name}", checked(fake), lib=LIBRARY)
    BACKENDS[name] = {"cpu": "native", "cuda": "native" if native else "reference"}
    return operator
