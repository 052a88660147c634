"""Writing a traced program in each format."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from thfr import extras
from thfr.deploy import files
from thfr.deploy.export.int8 import quantise
from thfr.errors import InputError

OPSET = 20
_ONE_FILE = 1_900_000_000  # bytes; protobuf ends at 2 GiB
_EXTRAS: dict[str, tuple[str, ...]] = {
    "onnx": ("onnx", "onnxscript", "onnxruntime"),
    "openvino": ("onnx", "onnxscript", "openvino"),
    "torch": (),
}
FORMATS = tuple(_EXTRAS)
_PRECISIONS = {"fp32": FORMATS, "bf16": ("openvino",), "int8": ("onnx",)}
"""Precision -> the formats that have it."""


def require(format: str, precision: str = "fp32") -> None:
    """Check that a format has a precision and that its packages are there.

    Raises:
        InputError: it has not; or one is absent: names the extra to install.
    """
    if format not in _PRECISIONS[precision]:
        expected = " or ".join(_PRECISIONS[precision])
        raise InputError(f"export: --{precision}: expected --format {expected}, got {format}")
    if format != "torch":
        extras.require(f"export: --format {format}", format, *_EXTRAS[format])


def write(
    program: torch.export.ExportedProgram,
    format: str,
    folder: Path,
    calibration: Sequence[np.ndarray] = (),  # uint8 [H,W,3]
) -> dict[str, Any]:
    """Write the program into ``folder``; gives the versions and settings that belong into its metadata.

    ``calibration``: good images, as the graph takes them, on which an int8 model is calibrated; none: fp32.
    """
    if format == "torch":
        torch.export.save(program, folder / files.MODELS["torch"])
        return {"torch": torch.__version__}
    if format == "onnx":
        versions = _write_onnx(program, folder / files.MODELS["onnx"])
        if calibration:
            quantise(folder / files.MODELS["onnx"], calibration)
        return versions
    if format == "openvino":
        return _write_openvino(program, folder)
    raise ValueError(f"write: format: expected one of {', '.join(FORMATS)}, got {format!r}")


def _write_onnx(program: torch.export.ExportedProgram, path: Path) -> dict[str, Any]:
    import onnx
    import onnxscript

    held = [*program.state_dict.values(), *program.constants.values()]
    weight = sum(tensor.nbytes for tensor in held if isinstance(tensor, torch.Tensor))
    torch.onnx.export(
        program,
        (),
        path,
        input_names=["image"],
        output_names=["map", "score", "verdict"],
        opset_version=OPSET,
        dynamo=True,
        external_data=weight > _ONE_FILE,
        verbose=False,
    )
    onnx.checker.check_model(os.fspath(path), full_check=weight <= _ONE_FILE)
    return {
        "opset": OPSET,
        "torch": torch.__version__,
        "onnx": onnx.__version__,
        "onnxscript": onnxscript.__version__,
    }


def _write_openvino(program: torch.export.ExportedProgram, folder: Path) -> dict[str, Any]:
    import openvino

    onnx_file = folder / files.MODELS["onnx"]
    versions = _write_onnx(program, onnx_file)
    model = openvino.convert_model(onnx_file)
    openvino.save_model(model, folder / files.MODELS["openvino"], compress_to_fp16=False)
    for path in folder.glob(f"{onnx_file.name}*"):
        path.unlink()
    return {**versions, "openvino": openvino.__version__}
