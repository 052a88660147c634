"""What a method is fitted on, and how it computes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from thfr.backbones import FeatureExtractor
from thfr.errors import InputError
from thfr.methods.common.features import FeatureStore, compute_features

Precision = Literal["fp32", "fp16", "bf16"]
PRECISIONS: dict[str, torch.dtype] = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}


@dataclass(frozen=True)
class FitContext:
    """What a method is fitted on, where, and how."""

    images: Tensor
    """uint8 [N,3,H,W], RGB, good, at the network's input size: whole images, or all their tiles, those of an
    image together.
    """
    indices: Tensor
    """int64 [N]: their indices among the images given to :func:`thfr.training.train`; of T tiles an image
    index * T + place.
    """
    out: Path
    """The run folder, for log, checkpoints and memory-mapped files."""
    device: torch.device
    progress: bool = False
    checkpoint_seconds: float = 60.0
    cache_budget: int = 4 << 30
    """Bytes of features to keep in memory; more go to a mapped file in ``out``."""

    def compute_features(
        self,
        extractor: FeatureExtractor,
        images: Tensor | None = None,  # uint8 [N,3,H,W]
        **options: Any,
    ) -> FeatureStore:
        """Features of ``images``, by default those to be fitted on; ``options`` as of
        :func:`thfr.methods.common.features.compute_features`.
        """
        given = self.images if images is None else images
        return compute_features(
            extractor, given, self.device, self.out, self.cache_budget, progress=self.progress, **options
        )


def resolve_device(device: str) -> torch.device:
    """``auto`` is CUDA where there is one, else the CPU."""
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if device not in {"cpu", "cuda"}:
        raise InputError(f"device: expected auto, cpu or cuda, got {device!r}")
    if device == "cuda" and not torch.cuda.is_available():
        raise InputError("device: cuda was asked for, but torch sees no CUDA device")
    return torch.device(device)
