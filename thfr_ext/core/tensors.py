"""How tensors reach the native module, and how other libraries' arrays reach the operators."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.autograd import forward_ad

#: dtype codes of ``thfr::DType`` (csrc/include/thfr/tensor_view.h)
_CODES = {
    torch.float32: 0,
    torch.float64: 1,
    torch.float16: 2,
    torch.bfloat16: 3,
    torch.bool: 4,
    torch.int64: 5,
}
FLOATS = (torch.float32, torch.float64, torch.float16, torch.bfloat16)

View = tuple[int, int, tuple[int, ...], tuple[int, ...]]
NO_TENSOR: View = (0, 0, (0,), (1,))  # of a tensor that is not asked for


def view(tensor: Tensor) -> View:
    """The tuple that the native module takes for a tensor. The caller keeps the tensor alive."""
    return tensor.data_ptr(), _CODES[tensor.dtype], tuple(tensor.shape), tensor.stride()


def accumulate_dtype(dtype: torch.dtype) -> torch.dtype:
    """The dtype that sums over ``dtype`` are kept in, and results come in: fp64 for fp64, else fp32."""
    return torch.float64 if dtype == torch.float64 else torch.float32


def as_tensor(operator: str, argument: str, value: Any) -> Tensor:
    """A tensor over ``value``'s memory: a tensor as it is, a NumPy array, or anything with ``__dlpack__``.

    Raises:
        TypeError: ``value`` is none of these, or of a dtype torch has not, or a sparse tensor.
    """
    if isinstance(value, Tensor):
        if value.layout != torch.strided:
            raise TypeError(f"{operator}: {argument}: expected a dense tensor, got {value.layout}")
        return value
    refuse_masked(operator, argument, value)
    try:
        if isinstance(value, np.ndarray):
            # torch holds no negative strides nor foreign byte order, and warns of read-only memory: copied.
            plain = value.flags.writeable and value.flags.aligned and all(s >= 0 for s in value.strides)
            if plain and value.dtype.isnative:
                return torch.from_numpy(value)
            return torch.from_numpy(value.astype(value.dtype.newbyteorder("="), order="C"))
        if hasattr(value, "__dlpack__"):
            return torch.utils.dlpack.from_dlpack(value)
    except (TypeError, BufferError, RuntimeError) as error:
        raise TypeError(f"{operator}: {argument}: cannot be read as a tensor: {error}") from error
    raise TypeError(
        f"{operator}: {argument}: expected a torch tensor, a NumPy array or an object with __dlpack__, "
        f"got {type(value).__name__}"
    )


def restorer(value: Any) -> Callable[[Tensor], Any]:
    """A function that turns a result tensor into the same kind of array as ``value``, without a copy."""
    if isinstance(value, Tensor):
        return lambda tensor: tensor
    if isinstance(value, np.ndarray):
        return lambda tensor: tensor.detach().numpy()
    namespace = (
        value.__array_namespace__()
        if hasattr(value, "__array_namespace__")
        else __import__(type(value).__module__.split(".")[0])
    )
    return namespace.from_dlpack  # type: ignore[no-any-return]


def describe(tensor: Tensor) -> str:
    """Shape, dtype and device for an error message."""
    return f"{list(tensor.shape)} {str(tensor.dtype).removeprefix('torch.')} on {tensor.device}"


def require_float(operator: str, argument: str, tensor: Tensor) -> None:
    """Raises TypeError if ``tensor`` is not fp32, fp64, fp16 or bf16."""
    if tensor.dtype not in FLOATS:
        raise TypeError(
            f"{operator}: {argument}: expected float32, float64, float16 or bfloat16, got {describe(tensor)}"
        )


def require_shape(operator: str, argument: str, tensor: Tensor, expected: str, *, dims: int) -> None:
    """Raises ValueError if ``tensor`` has not ``dims`` dimensions; ``expected`` names them: ``[B,C,H,W]``."""
    if tensor.dim() != dims:
        raise ValueError(f"{operator}: {argument}: expected shape {expected}, got {describe(tensor)}")


def require_same(operator: str, argument: str, tensor: Tensor, other: str, like: Tensor) -> None:
    """Raises ValueError or TypeError if ``tensor`` is not of the shape, dtype and device of ``like``."""
    if tensor.shape != like.shape or tensor.device != like.device:
        raise ValueError(
            f"{operator}: {argument}: expected shape and device of {other} ({describe(like)}), "
            f"got {describe(tensor)}"
        )
    if tensor.dtype != like.dtype:
        raise TypeError(
            f"{operator}: {argument}: expected dtype of {other} ({describe(like)}), got {describe(tensor)}"
        )


def refuse_masked(operator: str, argument: str, value: Any) -> None:
    """Raises TypeError for a masked array of NumPy: its mask would be lost."""
    if isinstance(value, np.ma.MaskedArray):
        raise TypeError(
            f"{operator}: {argument}: expected an array without a mask, got a masked one: fill it first"
        )


def is_differentiated(*tensors: Tensor) -> bool:
    """Whether one of them is a dual tensor, or torch.func differentiates with respect to it."""
    if has_tangent(*tensors):
        return True
    if not torch._C._are_functorch_transforms_active():
        return False
    return any(torch._C._functorch.is_gradtrackingtensor(tensor) for tensor in tensors)


def has_tangent(*tensors: Tensor) -> bool:
    """Whether one of them is a dual tensor of forward-mode differentiation."""
    return any(forward_ad.unpack_dual(tensor).tangent is not None for tensor in tensors)
