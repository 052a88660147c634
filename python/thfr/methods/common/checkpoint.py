"""Checkpoints from which training resumes exactly: network, optimiser and step in one file, written
atomically.

Order and corruption of the data are functions of (seed, step), so there is no generator state to keep. The
JSON part lies in the safetensors header: two files could not be replaced together.
"""

from __future__ import annotations

import json
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from thfr.errors import InputError
from thfr.runs.tensors import part, save_tensors

_METADATA = "facts"  # the name in the files that there are


def save_checkpoint(
    path: Path, network: nn.Module, optimizer: torch.optim.Optimizer, step: int, metadata: dict[str, float]
) -> None:
    """Write the state after ``step`` optimisation steps; ``metadata``: numbers to be kept, such as the time
    spent.
    """
    tensors = {f"network.{name}": tensor for name, tensor in network.state_dict().items()}
    for index, state in optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer.{index}.{name}": value for name, value in state.items()}
    save_tensors(tensors, path, {"step": json.dumps(step), _METADATA: json.dumps(metadata)})


def load_checkpoint(
    path: Path, network: nn.Module, optimizer: torch.optim.Optimizer, command: str = "train"
) -> tuple[int, dict[str, float]]:
    """Restore network and optimiser; gives the step and the metadata.

    Raises:
        InputError: the file is damaged or of another network; begins with ``command``.
    """
    try:
        with safe_open(path, framework="pt") as file:
            header = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a dict
        step, metadata = int(json.loads(header["step"])), dict(json.loads(header[_METADATA]))
        network.load_state_dict(part(tensors, "network."), strict=True)
        parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
        state: dict[int, dict[str, Tensor]] = {}
        for name, tensor in part(tensors, "optimizer.").items():
            index, key = name.split(".")
            like = parameters[int(index)]
            # a fused optimiser walks raw memory: its moments must lie as the parameter does (channels last)
            laid = torch.empty_like(like).copy_(tensor) if tensor.shape == like.shape else tensor
            state.setdefault(int(index), {})[key] = laid
        optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})
    except (SafetensorError, OSError, RuntimeError, ValueError, KeyError, IndexError) as error:
        raise InputError(
            f"{command}: the checkpoint {path} is damaged ({type(error).__name__}: {error}). "
            "Remove it to start this run again from the beginning."
        ) from error
    return step, metadata
