"""Static quantisation: convolutions in 8 bits, their ranges measured on good images; everything else, and so
retrieval, attention and scoring, stays in fp32.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np


def quantise(
    path: Path,
    images: Sequence[np.ndarray],  # uint8 [H,W,3]
) -> None:
    """Replace an ONNX model by one with convolutions in int8: activations uint8, weights int8 by channel.

    ``images``: good ones, as the graph takes them.
    """
    import onnx
    from onnxruntime.quantization import (
        CalibrationDataReader,
        CalibrationMethod,
        QuantFormat,
        QuantType,
        quantize_static,
    )

    class Reader(CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self.left: Iterator[np.ndarray] = iter(images)

        def get_next(self) -> dict[str, np.ndarray] | None:
            image = next(self.left, None)
            return None if image is None else {"image": image[None]}

    whole = path.with_name("fp32.onnx")
    path.rename(whole)
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)  # it asks for a clean-up of the graph that the exporter has done
    try:
        quantize_static(
            whole,
            path,
            Reader(),
            quant_format=QuantFormat.QDQ,
            op_types_to_quantize=["Conv"],
            per_channel=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            calibrate_method=CalibrationMethod.MinMax,
        )
    finally:
        logging.disable(before)
    whole.unlink()
    onnx.checker.check_model(path, full_check=True)
