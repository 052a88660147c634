"""The scoring operators: schema, kernels, fake kernels and derivatives of each."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from thfr_ext.core.registration import LIBRARY, register
from thfr_ext.core.tensors import has_tangent, is_differentiated
from thfr_ext.scoring import cpu, cuda, torch_path
from thfr_ext.scoring.checks import (
    check_anomaly_map,
    check_backward,
    check_cosine_distance,
    check_upsample_blur,
    empty_distance,
    empty_gradients,
    empty_map,
)

_PATHS = {"cpu": cpu, "torch_path": torch_path, "cuda": cuda}

cosine_distance = register(
    "cosine_distance",
    "(Tensor features, Tensor restored, float eps) -> Tensor",
    check=check_cosine_distance,
    fake=lambda features, restored, eps: empty_distance(features),
    **_PATHS,
)


def _backward_fake(
    grad: Tensor, features: Tensor, restored: Tensor, eps: float, need_features: bool, need_restored: bool
) -> tuple[Tensor, Tensor]:
    return empty_gradients(features, restored, need_features, need_restored)


# The gradients for features and restored, in the memory format of each; one that is not needed comes back as
# an empty tensor, since a schema has no optional results.
cosine_distance_backward = register(
    "cosine_distance_backward",
    "(Tensor grad_distance, Tensor features, Tensor restored, float eps, bool need_features, "
    "bool need_restored) -> (Tensor, Tensor)",
    check=check_backward,
    fake=_backward_fake,
    **_PATHS,
)


def _second_derivative(*_: Any) -> Any:
    raise NotImplementedError(
        "cosine_distance: the second derivative is not implemented; "
        "differentiate thfr_ext.reference.cosine_distance instead"
    )


def _one_batch(info: Any, in_dims: tuple[int | None, ...], *tensors: Tensor) -> list[Tensor]:
    """Tensors of a vmap, [V,B,...] or without V, as [V*B,...]."""
    moved = [
        tensor.expand(info.batch_size, *tensor.shape) if at is None else tensor.movedim(at, 0)
        for tensor, at in zip(tensors, in_dims, strict=False)
    ]
    return [tensor.flatten(0, 1) for tensor in moved]


class _Gradients(torch.autograd.Function):
    """``cosine_distance_backward`` in torch.func's transforms; it has no derivative itself."""

    @staticmethod
    def forward(*given: Any) -> tuple[Tensor, Tensor]:
        found: tuple[Tensor, Tensor] = cosine_distance_backward(*given)
        return found

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
        pass

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        return _second_derivative()

    @staticmethod
    def jvp(ctx: Any, *tangents: Any) -> Any:
        return _second_derivative()

    @staticmethod
    def vmap(
        info: Any,
        in_dims: tuple[int | None, ...],
        grad: Tensor,
        features: Tensor,
        restored: Tensor,
        *options: Any,
    ) -> tuple[tuple[Tensor, ...], tuple[int | None, ...]]:
        found = _Gradients.apply(*_one_batch(info, in_dims, grad, features, restored), *options)
        asked = options[1:]
        shaped = (
            value.unflatten(0, (info.batch_size, -1)) if need else value
            for value, need in zip(found, asked, strict=True)
        )
        return tuple(shaped), tuple(0 if need else None for need in asked)


class _Derivatives(torch.autograd.Function):
    """Both ways to differentiate the distance once, also inside torch.func's transforms; a class of its own,
    since ``torch.library.register_autograd`` knows of no forward mode and would give tangents of zero.
    """

    @staticmethod
    def forward(features: Tensor, restored: Tensor, eps: float) -> Tensor:
        return cosine_distance(features, restored, eps)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        features, restored, ctx.eps = inputs
        ctx.save_for_backward(features, restored)
        ctx.save_for_forward(features, restored)

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> tuple[Tensor | None, Tensor | None, None]:
        features, restored = ctx.saved_tensors
        need_x, need_y, _ = ctx.needs_input_grad
        grad_x, grad_y = _Gradients.apply(grads[0], features, restored, ctx.eps, need_x, need_y)
        return grad_x if need_x else None, grad_y if need_y else None, None

    @staticmethod
    def jvp(ctx: Any, *tangents: Any) -> Tensor:
        features, restored = ctx.saved_tensors
        ones = torch.ones_like(features[:, 0])
        # the distance at a location depends on its own vectors alone: one gradient is the whole Jacobian
        gradients = _Gradients.apply(ones, features, restored, ctx.eps, True, True)
        parts = [
            (gradient * tangent).sum(1)
            for gradient, tangent in zip(gradients, tangents[:2], strict=True)
            if tangent is not None
        ]
        return sum(parts[1:], parts[0])

    @staticmethod
    def vmap(
        info: Any, in_dims: tuple[int | None, ...], features: Tensor, restored: Tensor, eps: float
    ) -> tuple[Tensor, int]:
        found = _Derivatives.apply(*_one_batch(info, in_dims, features, restored), eps)
        return found.unflatten(0, (info.batch_size, -1)), 0


def _set_up(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    features, restored, ctx.eps = inputs
    ctx.save_for_backward(features, restored)


torch.library.register_autograd(
    "thfr_ext::cosine_distance", _Derivatives.backward, setup_context=_set_up, lib=LIBRARY
)
torch.library.register_autograd("thfr_ext::cosine_distance_backward", _second_derivative, lib=LIBRARY)


def differentiable_distance(features: Tensor, restored: Tensor, eps: float) -> Tensor:
    """``cosine_distance``, by :class:`_Derivatives` where forward mode or a transform may ask for it."""
    if torch._C._are_functorch_transforms_active() or has_tangent(features, restored):
        found: Tensor = _Derivatives.apply(features, restored, eps)
        return found
    return cosine_distance(features, restored, eps)


def _anomaly_map_fake(
    features: Sequence[Tensor], restored: Sequence[Tensor], size: Sequence[int], *options: Any
) -> tuple[Tensor, Tensor]:
    return empty_map(features, size)


anomaly_map = register(
    "anomaly_map",
    "(Tensor[] features, Tensor[] restored, SymInt[] size, float sigma, str combine, float[]? weights)"
    " -> (Tensor, Tensor)",
    check=check_anomaly_map,
    fake=_anomaly_map_fake,
    **_PATHS,
)


def _upsample_blur_fake(
    distances: Sequence[Tensor], size: Sequence[int], *options: Any
) -> tuple[Tensor, Tensor]:
    return empty_map(distances, size)


upsample_blur = register(
    "upsample_blur",
    "(Tensor[] distances, SymInt[] size, float sigma, str combine, float[]? weights) -> (Tensor, Tensor)",
    check=check_upsample_blur,
    fake=_upsample_blur_fake,
    **_PATHS,
)


def _not_differentiable(*_: Any) -> None:
    raise NotImplementedError(
        "anomaly_map: not differentiable; train on cosine_distance and call anomaly_map under torch.no_grad()"
    )


def _blur_not_differentiable(*_: Any) -> None:
    raise NotImplementedError(
        "upsample_blur: not differentiable; train on the distances and call upsample_blur under "
        "torch.no_grad()"
    )


def refuse_derivatives(name: str, *tensors: Tensor) -> None:
    """Raises NotImplementedError in forward mode and in torch.func's transforms, which else give zeros."""
    if is_differentiated(*tensors):
        {"anomaly_map": _not_differentiable, "upsample_blur": _blur_not_differentiable}[name]()


torch.library.register_autograd("thfr_ext::anomaly_map", _not_differentiable, lib=LIBRARY)
torch.library.register_autograd("thfr_ext::upsample_blur", _blur_not_differentiable, lib=LIBRARY)
