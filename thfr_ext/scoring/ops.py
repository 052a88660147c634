"""The scoring operators: schema, kernels, fake kernels and derivatives of each."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from thfr_ext.core.registration import LIBRARY, register
from thfr_ext.scoring import cpu, cuda, reference, torch_path
from thfr_ext.scoring.checks import (
    check_anomaly_map,
    check_backward,
    check_cosine_distance,
    check_upsample_blur,
    empty_distance,
    empty_gradients,
    empty_map,
)

cosine_distance = register(
    "cosine_distance",
    "(Tensor features, Tensor restored, float eps) -> Tensor",
    check=check_cosine_distance,
    cpu=cpu.cosine_distance,
    reference=reference.cosine_distance,
    torch_path=torch_path.cosine_distance,
    fake=lambda features, restored, eps: empty_distance(features),
    cuda=cuda.cosine_distance,
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
    cpu=cpu.cosine_distance_backward,
    reference=reference.cosine_distance_backward,
    torch_path=torch_path.cosine_distance_backward,
    fake=_backward_fake,
    cuda=cuda.cosine_distance_backward,
)


def _save_for_backward(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    features, restored, ctx.eps = inputs
    ctx.save_for_backward(features, restored)


def _differentiate(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
    features, restored = ctx.saved_tensors
    need_x, need_y, _ = ctx.needs_input_grad
    grad_x, grad_y = cosine_distance_backward(grad, features, restored, ctx.eps, need_x, need_y)
    return grad_x if need_x else None, grad_y if need_y else None, None


def _no_second_derivative(ctx: Any, *grads: Tensor) -> None:
    raise NotImplementedError(
        "cosine_distance: the second derivative is not implemented; "
        "differentiate thfr_ext.reference.cosine_distance instead"
    )


torch.library.register_autograd(
    "thfr_ext::cosine_distance", _differentiate, setup_context=_save_for_backward, lib=LIBRARY
)
torch.library.register_autograd("thfr_ext::cosine_distance_backward", _no_second_derivative, lib=LIBRARY)


def _anomaly_map_fake(
    features: Sequence[Tensor], restored: Sequence[Tensor], size: Sequence[int], *options: Any
) -> tuple[Tensor, Tensor]:
    return empty_map(features, size)


anomaly_map = register(
    "anomaly_map",
    "(Tensor[] features, Tensor[] restored, SymInt[] size, float sigma, str combine, float[]? weights)"
    " -> (Tensor, Tensor)",
    check=check_anomaly_map,
    cpu=cpu.anomaly_map,
    reference=reference.anomaly_map,
    torch_path=torch_path.anomaly_map,
    fake=_anomaly_map_fake,
    cuda=cuda.anomaly_map,
)


def _upsample_blur_fake(
    distances: Sequence[Tensor], size: Sequence[int], *options: Any
) -> tuple[Tensor, Tensor]:
    return empty_map(distances, size)


upsample_blur = register(
    "upsample_blur",
    "(Tensor[] distances, SymInt[] size, float sigma, str combine, float[]? weights) -> (Tensor, Tensor)",
    check=check_upsample_blur,
    cpu=cpu.upsample_blur,
    reference=reference.upsample_blur,
    torch_path=torch_path.upsample_blur,
    fake=_upsample_blur_fake,
    cuda=cuda.upsample_blur,
)


def _not_differentiable(ctx: Any, *grads: Tensor) -> None:
    raise NotImplementedError(
        "anomaly_map: not differentiable; train on cosine_distance and call anomaly_map under torch.no_grad()"
    )


def _blur_not_differentiable(ctx: Any, *grads: Tensor) -> None:
    raise NotImplementedError(
        "upsample_blur: not differentiable; train on the distances and call upsample_blur under "
        "torch.no_grad()"
    )


torch.library.register_autograd("thfr_ext::anomaly_map", _not_differentiable, lib=LIBRARY)
torch.library.register_autograd("thfr_ext::upsample_blur", _blur_not_differentiable, lib=LIBRARY)
