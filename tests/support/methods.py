"""The smallest run of every method: a second on one core."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from thfr.config import RunConfig
from thfr.methods import Detector
from thfr.methods.registry import config_from_values
from thfr.training import train

SIZE = 64
_FEW: dict[str, Any] = {"min_steps": 4, "max_steps": 4, "batch_size": 4, "precision": "fp32"}

SMALL: dict[str, dict[str, dict[str, Any]]] = {
    "thfr": {"model": {"bottleneck_channels": 16}, "training": _FEW},
    "thfr+all": {"model": {"bottleneck_channels": 16, "parts": "all"}, "training": _FEW},
    "rd4ad": {"model": {"block": "bottleneck", "blocks": 1}, "training": {**_FEW, "decay": True}},
    "student_teacher": {"model": {"width": 4, "students": 2, "levels": [2, 3]}, "training": _FEW},
    "gcad": {"model": {"width": 4, "levels": [2]}, "training": _FEW},
    "cflow": {
        "model": {"couplings": 2, "position_channels": 8},
        "training": {**_FEW, "steps_per_batch": 2, "locations": 64},
    },
    "draem": {
        "model": {"reconstruction_width": 4, "discrimination_width": 8, "smoothing": 11},
        "training": {**_FEW, "rotation": 0},
    },
    "template": {"model": {"memory": 100}, "training": {"candidates": 300, "projection": 32}},
    "template+counts": {
        "model": {"memory": 100, "counts": True},
        "training": {"candidates": 300, "projection": 32},
    },
    "spade": {"model": {"image_neighbours": 4, "stride": 8}},
    "padim": {"model": {"dimension": 40, "stride": 8}},
    "patchcore": {"model": {"bank_ratio": 0.2}, "training": {"projection": 32, "candidates": 300}},
}
"""Sections of the configurations, by method; what is behind a + is a setting of it."""

_MORE: dict[str, dict[str, Any]] = {
    "thfr": {"min_steps": 30, "max_steps": 30},
    "thfr+all": {"min_steps": 30, "max_steps": 30},
    "rd4ad": {"min_steps": 60, "max_steps": 60, "learning_rate": 5e-3},
    "student_teacher": {"min_steps": 60, "max_steps": 60, "learning_rate": 5e-3},
    "gcad": {"min_steps": 60, "max_steps": 60, "learning_rate": 5e-3},
    "cflow": {"min_steps": 80, "max_steps": 80, "learning_rate": 2e-3, "batch_size": 16, "locations": 256},
    # found with six of six, three seeds in fp32 and bf16: a faster one hangs on the processor's rounding
    "draem": {"min_steps": 200, "max_steps": 200, "learning_rate": 1e-3},
}


def small_config(method: str, *, enough: bool = False, **training: Any) -> RunConfig:
    """A run of four steps, or of ``enough`` steps to find something; ``training``: other settings."""
    sections = SMALL.get(method, {})
    model = {"backbone": "tf_efficientnet_lite0", "size": SIZE, **sections.get("model", {})}
    settings = {**sections.get("training", {}), **(_MORE.get(method, {}) if enough else {}), **training}
    name = method.partition("+")[0]
    return config_from_values({"method": name, "model": model, "training": settings})


def run(config: RunConfig, images: list[Path], out: Path, **options: Any) -> Detector[Any]:
    """A training on the CPU that says nothing."""
    return train(config, images, out, progress=False, device="cpu", **options)
