"""Tensors in files: safetensors, whole or not at all."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from thfr.errors import InputError
from thfr.io import atomic_path


def save_tensors(state: dict[str, Tensor], path: Path, metadata: dict[str, str] | None = None) -> None:
    """Write tensors as safetensors, whole or not at all."""
    with atomic_path(path) as temporary:
        temporary.touch()
        mode = temporary.stat().st_mode
        save_file({name: tensor.cpu().contiguous() for name, tensor in state.items()}, temporary, metadata)
        temporary.chmod(mode)  # safetensors makes files that only their owner can read


def load_tensors(module: torch.nn.Module, path: Path) -> None:
    """Read a module's tensors strictly; InputError if the file is missing, damaged or of another module."""
    try:
        module.load_state_dict(load_file(path), strict=True)
    except (SafetensorError, OSError, RuntimeError, ValueError) as error:
        raise InputError(f"Detector.load: {path} cannot be read: {error}") from error


def part(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """The tensors whose names begin with ``prefix``, without it."""
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}
