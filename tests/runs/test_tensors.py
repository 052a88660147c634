"""Files of tensors."""

from __future__ import annotations

from pathlib import Path

import torch
from thfr.runs.tensors import save_tensors


def test_files_are_as_readable_as_any_other(tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.touch()
    save_tensors({"x": torch.ones(2)}, tmp_path / "tensors.safetensors")
    assert (tmp_path / "tensors.safetensors").stat().st_mode == other.stat().st_mode
