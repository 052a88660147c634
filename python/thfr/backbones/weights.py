"""Read backbone weights from files, strictly, and name what was read.

Weights never arrive half: a key that the extractor needs and the file lacks is an error, and what is left
over must be on the backbone's own list of parts that a feature extractor does not have (classifier, last
stage).
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from thfr.errors import InputError


def read_weights(path: Path) -> dict[str, Tensor]:
    """Read a ``.safetensors`` file, or a ``.pth``/``.pt`` file without running any code stored in it.

    Raises InputError if the file is missing, unreadable, or holds anything but named tensors.
    """
    if not path.is_file():
        raise InputError(f"weights: no such file: {path}")
    if path.suffix == ".safetensors":
        try:
            return load_file(path)
        except (SafetensorError, OSError, ValueError) as error:
            raise InputError(f"weights: {path} is not a readable safetensors file: {error}") from error
    if path.suffix not in {".pth", ".pt"}:
        raise InputError(f"weights: expected a .safetensors, .pth or .pt file, got {path}")
    try:
        loaded = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises many kinds for a damaged or unsafe pickle
        raise InputError(f"weights: {path} cannot be read with weights_only=True: {error}") from error
    if isinstance(loaded, Mapping) and isinstance(loaded.get("state_dict"), Mapping):
        loaded = loaded["state_dict"]
    if not isinstance(loaded, Mapping) or not all(isinstance(value, Tensor) for value in loaded.values()):
        raise InputError(f"weights: expected a dictionary of tensors in {path}, got {type(loaded).__name__}")
    return {str(name): tensor for name, tensor in loaded.items()}


def load_strictly(
    module: nn.Module, state: Mapping[str, Tensor], left_over: Sequence[str], source: str
) -> None:
    """Load ``state`` into ``module``; only names that begin with an entry of ``left_over`` may stay unused.

    Raises InputError naming the keys that are missing, unexpected, or of another shape.
    """
    needed = module.state_dict()
    # a folded or very old checkpoint may not count batches; the counter is never used by a frozen network
    optional = {name for name in needed if name.endswith("num_batches_tracked")}
    missing = sorted(needed.keys() - state.keys() - optional)
    unexpected = sorted(
        name for name in state.keys() - needed.keys() if not name.startswith(tuple(left_over))
    )
    reshaped = sorted(
        f"{name} {tuple(state[name].shape)} for {tuple(needed[name].shape)}"
        for name in needed.keys() & state.keys()
        if state[name].shape != needed[name].shape
    )
    for what, names in (
        ("lacks", missing),
        ("has unexpected", unexpected),
        ("has other shapes for", reshaped),
    ):
        if names:
            more = f" and {len(names) - 4} more" if len(names) > 4 else ""
            raise InputError(f"weights: {source} {what} {len(names)} entries: {', '.join(names[:4])}{more}")
    module.load_state_dict({name: state[name] for name in needed.keys() & state.keys()}, strict=False)


def weights_digest(module: nn.Module) -> str:
    """SHA-256 over names, dtypes, shapes and bytes of the tensors in use: the same whatever file they came
    from.
    """
    digest = hashlib.sha256()
    for name, tensor in sorted(module.state_dict().items()):
        if name.endswith("num_batches_tracked"):
            continue
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
