"""What was built and what runs."""

from __future__ import annotations

from typing import Any

import torch

from thfr_ext import _C
from thfr_ext.core import backends
from thfr_ext.core.registration import CUDA_KERNELS, TORCH_PATHS


def build_info() -> dict[str, Any]:
    """About this build and machine.

    Returns:
        ``version`` and ``compiler`` (str); ``simd`` (the level in use: baseline, avx2 or avx512) and
        ``simd_built`` (list of str); ``cuda``: a dict of ``built`` (bool), ``version`` and ``archs`` (str),
        ``devices`` (list of dicts with name, capability, memory_bytes and runnable) and ``problem`` (str,
        empty if the devices can be used); ``backend``: operator -> {"cpu": "native", "cuda": "native",
        "torch" or "shadow"}: what runs on the current GPU as THFR_CUDA_BACKEND and the self-check say, or
        "torch" without one.

    Raises:
        ValueError: THFR_CUDA_BACKEND is none of auto, native, torch and shadow, or asks for what cannot run.
    """
    built = dict(_C.build_info())
    cuda = {name: built.pop(f"cuda_{name}") for name in ("built", "version", "archs")}
    backends.mode()
    here = torch.device("cuda") if torch.cuda.is_available() else None
    return {
        **built,
        "cuda": {**cuda, **_C.cuda_devices()},
        "backend": {
            name: {
                "cpu": "native",
                "cuda": backends.choose(name, name in CUDA_KERNELS, here) if here else "torch",
            }
            for name in TORCH_PATHS
        },
    }
