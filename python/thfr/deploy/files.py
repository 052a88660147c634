"""The names of the files in an exported folder."""

from __future__ import annotations

METADATA = "export.json"
"""What the model is and how images are prepared for it; a folder with it is an exported one."""
PARITY = "parity.json"
"""How the exported model compares with the run it came from."""
MODELS = {"onnx": "model.onnx", "openvino": "model.xml", "torch": "model.pt2"}
"""Format -> the file of the model."""
FORMAT_VERSION = 2
"""2: rectangular inputs, letterboxed images, regions of interest; 1 is read as well."""
