"""Run folders as the code wrote them before the layout of version 0.2, rebuilt from text.

A JSON file holds a run's small files as they were, the names, dtypes and shapes of its tensors, and what that
code then scored. The tensors' values, megabytes of them, are a function of their names (:func:`filled`).
"""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np
import torch
from torch import Tensor

_POSITIVE = ("std", "deviation", "running_var", "exp_avg_sq")


def filled(name: str, dtype: str, shape: list[int]) -> Tensor:
    """The values of a tensor of that name: such that a network of them computes something."""
    kind: Any = getattr(torch, dtype)
    last = name.rsplit(".", 1)[-1]
    if last in ("w_perm", "w_perm_inv"):
        return torch.eye(shape[0], dtype=kind)
    if not kind.is_floating_point:
        return torch.arange(int(np.prod(shape)), dtype=kind).reshape(shape)
    rng = np.random.default_rng(list(hashlib.sha256(name.encode()).digest()[:8]))
    values = 0.2 * rng.standard_normal(shape)
    if last.startswith(_POSITIVE):
        values = 0.5 + np.abs(values)
    elif last == "largest":  # about the log-likelihoods of such a flow
        values = np.full(shape, -4.0)
    elif last == "step":
        values = np.full(shape, 2.0)
    return torch.from_numpy(np.asarray(values)).to(kind)


def images() -> Tensor:  # uint8 [3,3,64,64]
    """What is scored."""
    rng = np.random.default_rng(7)
    coarse = torch.from_numpy(rng.uniform(0, 255, (3, 3, 8, 8)))
    return torch.nn.functional.interpolate(coarse, 64, mode="bilinear").to(torch.uint8)
