"""Writing a traced program in each format."""

from __future__ import annotations

import os
from importlib import import_module
from pathlib import Path
from typing import Any

import torch

from thfr.deploy import files
from thfr.errors import InputError

OPSET = 20
_ONE_FILE = 1_900_000_000  # bytes; protobuf ends at 2 GiB
_EXTRAS = {
    "onnx": ("onnx", ("onnx", "onnxscript", "onnxruntime")),
    "openvino": ("openvino", ("onnx", "onnxscript", "openvino")),
    "torch": (None, ()),
}
FORMATS = tuple(_EXTRAS)


def require(format: str) -> None:
    """Raises InputError, naming the extra to install, if the packages of a format are absent."""
    extra, modules = _EXTRAS[format]
    for name in modules:
        try:
            import_module(name)
        except ImportError as error:
            raise InputError(
                f"export: --format {format} needs the package {name} ({error}): "
                f"pip install 'thfr-ext[{extra}]'"
            ) from error


def write(program: torch.export.ExportedProgram, format: str, folder: Path) -> dict[str, Any]:
    """Write the program into ``folder``; gives the versions and settings that belong into its metadata."""
    if format == "torch":
        torch.export.save(program, folder / files.MODELS["torch"])
        return {"torch": torch.__version__}
    if format == "onnx":
        return _write_onnx(program, folder / files.MODELS["onnx"])
    return _write_openvino(program, folder)


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
