"""What was built and what runs."""

from __future__ import annotations

from typing import Any

from thfr_ext import _C
from thfr_ext.core.registration import BACKENDS


def build_info() -> dict[str, Any]:
    """Facts about this build and machine.

    Returns:
        ``version`` and ``compiler`` (str); ``simd`` (the level in use: baseline, avx2 or avx512) and
        ``simd_built`` (list of str); ``cuda``: a dict of ``built`` (bool), ``version`` and ``archs`` (str),
        ``devices`` (list of dicts with name, capability, memory_bytes and runnable) and ``problem`` (str,
        empty if the devices can be used); ``backend``: operator -> {"cpu": "native", "cuda": "reference" or
        "native"}.
    """
    facts = dict(_C.build_facts())
    cuda = {name: facts.pop(f"cuda_{name}") for name in ("built", "version", "archs")}
    return {
        **facts,
        "cuda": {**cuda, **_C.cuda_devices()},
        "backend": {k: dict(v) for k, v in BACKENDS.items()},
    }
