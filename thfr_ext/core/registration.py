"""Registration of the operators with torch: one library."""

from __future__ import annotations

import functools
from collections.abc import Callable
from types import ModuleType
from typing import Any

import torch

from thfr_ext.core import backends

LIBRARY = torch.library.Library("thfr_ext", "DEF")

#: operator -> its CUDA kernel with its checks; those that have one
CUDA_KERNELS: dict[str, Callable[..., Any]] = {}

#: operator -> its PyTorch path with its checks
TORCH_PATHS: dict[str, Callable[..., Any]] = {}

#: operator -> its plain PyTorch twin with its checks: the specification
REFERENCES: dict[str, Callable[..., Any]] = {}


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
    fake: Callable[..., Any],
    cpu: ModuleType,
    torch_path: ModuleType,
    cuda: ModuleType | None = None,
    reference: ModuleType | None = None,
) -> Any:
    """Define ``thfr_ext::name`` with its kernels: the function ``name`` of each module, run after ``check``.

    Args:
        schema: arguments and results, as in ``(Tensor x) -> Tensor``.
        check: raises ValueError or TypeError unless shapes, dtypes, devices and options fit. It takes the
            operator's arguments, reads no data, and looks at an attribute of every tensor.
        fake: shapes and dtypes only, for torch.compile and torch.export.
        cpu: has the native kernel for CPU tensors.
        torch_path: has fast PyTorch operations, for CUDA tensors.
        cuda: has the native CUDA kernel, if there is one; used as :func:`thfr_ext.core.backends.choose` says.
        reference: has a plain PyTorch twin: the specification; None: ``torch_path`` is as plain.

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

    def of(module: ModuleType) -> Callable[..., Any]:
        return checked(getattr(module, name))

    if cuda is not None:
        CUDA_KERNELS[name] = of(cuda)
    TORCH_PATHS[name], REFERENCES[name] = of(torch_path), of(reference or torch_path)
    LIBRARY.impl(name, of(cpu), "CPU")
    LIBRARY.impl(name, backends.dispatcher(name, CUDA_KERNELS.get(name), TORCH_PATHS[name]), "CUDA")
    torch.library.register_fake(f"thfr_ext::{name}", checked(fake), lib=LIBRARY)
    return operator
