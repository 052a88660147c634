"""Tensors in files: safetensors, written atomically, read with checks."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from thfr.errors import InputError
from thfr.io import atomic_path


def save_tensors(state: dict[str, Tensor], path: Path, metadata: dict[str, str] | None = None) -> None:
    """Write tensors as safetensors, atomically."""
    with atomic_path(path) as temporary:
        temporary.touch()
        mode = temporary.stat().st_mode
        save_file({name: tensor.cpu().contiguous() for name, tensor in state.items()}, temporary, metadata)
        temporary.chmod(mode)  # safetensors makes files that only their owner can read


def read_tensors(path: Path) -> dict[str, Tensor]:
    """The tensors in a safetensors file.

    Raises:
        InputError: it is missing or damaged, or a tensor of floats is not finite.
    """
    try:
        tensors = load_file(path)
    except (SafetensorError, OSError, RuntimeError, ValueError) as error:
        raise InputError(f"Detector.load: {path} cannot be read: {error}") from error
    for name, tensor in tensors.items():
        if tensor.is_floating_point() and not tensor.isfinite().all():
            raise InputError(f"Detector.load: {path} cannot be used: {name} holds values that are not finite")
    return tensors


def load_tensors(module: torch.nn.Module, path: Path) -> None:
    """Read a module's tensors strictly; InputError if the file is not one of this module (:func:`read_tensors`)."""
    try:
        module.load_state_dict(read_tensors(path), strict=True)
    except RuntimeError as error:
        raise InputError(f"Detector.load: {path} cannot be read: {error}") from error


def part(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """The tensors whose names begin with ``prefix``, without it."""
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}
