"""The scoring operators: schema, checks, kernels, fake kernels and derivatives of each."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from thfr_ext.core.registration import register
from thfr_ext.scoring import cpu, cuda, reference
from thfr_ext.scoring.checks import (
    check_backward,
    check_cosine_distance,
    check_levels,
    check_options,
    empty_distance,
    empty_gradients,
    empty_map,
)


def _cosine_distance_reference(features: Tensor, restored: Tensor, eps: float) -> Tensor:
    check_cosine_distance(features, restored, eps)
    return reference.cosine_distance(features, restored, eps)


def _cosine_distance_fake(features: Tensor, restored: Tensor, eps: float) -> Tensor:
    check_cosine_distance(features, restored, eps)
    return empty_distance(features)


register(
    "cosine_distance",
    "(Tensor features, Tensor restored, float eps) -> Tensor",
    cpu=cpu.cosine_distance,
    cuda_reference=_cosine_distance_reference,
    cuda_native=cuda.cosine_distance,
    fake=_cosine_distance_fake,
)


def _backward_reference(
    grad: Tensor, features: Tensor, restored: Tensor, eps: float, need_features: bool, need_restored: bool
) -> tuple[Tensor, Tensor]:
    check_backward(grad, features, restored)
    return reference.cosine_distance_backward(grad, features, restored, eps, need_features, need_restored)


def _backward_fake(
    grad: Tensor, features: Tensor, restored: Tensor, eps: float, need_features: bool, need_restored: bool
) -> tuple[Tensor, Tensor]:
    check_backward(grad, features, restored)
    return empty_gradients(features, restored, need_features, need_restored)


# The gradients for features and restored, in the memory format of each; one that is not needed comes back as
# an empty tensor, since a schema has no optional results.
register(
    "cosine_distance_backward",
    "(Tensor grad_distance, Tensor features, Tensor restored, float eps, bool need_features, "
    "bool need_restored) -> (Tensor, Tensor)",
    cpu=cpu.cosine_distance_backward,
    cuda_reference=_backward_reference,
    cuda_native=cuda.cosine_distance_backward,
    fake=_backward_fake,
)


def _save_for_backward(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    features, restored, ctx.eps = inputs
    ctx.save_for_backward(features, restored)


def _differentiate(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
    features, restored = ctx.saved_tensors
    need_x, need_y, _ = ctx.needs_input_grad
    backward = torch.ops.thfr_ext.cosine_distance_backward
    grad_x, grad_y = backward(grad, features, restored, ctx.eps, need_x, need_y)
    return grad_x if need_x else None, grad_y if need_y else None, None


def _no_second_derivative(ctx: Any, *grads: Tensor) -> None:
    raise NotImplementedError(
        "cosine_distance: the second derivative is not implemented; "
        "differentiate thfr_ext.reference.cosine_distance instead"
    )


torch.library.register_autograd("thfr_ext::cosine_distance", _differentiate, setup_context=_save_for_backward)
torch.library.register_autograd("thfr_ext::cosine_distance_backward", _no_second_derivative)


def _anomaly_map_reference(
    features: Sequence[Tensor],
    restored: Sequence[Tensor],
    size: Sequence[int],
    sigma: float,
    combine: str,
    weights: Sequence[float] | None,
) -> tuple[Tensor, Tensor]:
    check_levels(features, restored)
    check_options(len(features), size, sigma, combine, weights)
    return reference.anomaly_map(features, restored, size, sigma, combine, weights)


def _anomaly_map_fake(
    features: Sequence[Tensor],
    restored: Sequence[Tensor],
    size: Sequence[int],
    sigma: float,
    combine: str,
    weights: Sequence[float] | None,
) -> tuple[Tensor, Tensor]:
    check_levels(features, restored)
    check_options(len(features), size, sigma, combine, weights)
    return empty_map(features, size)


register(
    "anomaly_map",
    "(Tensor[] features, Tensor[] restored, SymInt[] size, float sigma, str combine, float[]? weights)"
    " -> (Tensor, Tensor)",
    cpu=cpu.anomaly_map,
    cuda_reference=_anomaly_map_reference,
    cuda_native=cuda.anomaly_map,
    fake=_anomaly_map_fake,
)


def _not_differentiable(ctx: Any, *grads: Tensor) -> None:
    raise NotImplementedError(
        "anomaly_map: not differentiable; train on cosine_distance and call anomaly_map under torch.no_grad()"
    )


torch.library.register_autograd("thfr_ext::anomaly_map", _not_differentiable)
