"""In which precision a training computes."""

from __future__ import annotations

import torch


def resolve_precision(wanted: str, device: torch.device) -> str:
    """``wanted``, ``auto`` being bf16 where the processor or GPU multiplies in it faster, else fp32."""
    if wanted != "auto":
        return wanted
    if device.type == "cuda":
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp32"
    fast = torch.cpu._is_amx_tile_supported() or torch.cpu._is_avx512_bf16_supported()
    return "bf16" if fast else "fp32"
