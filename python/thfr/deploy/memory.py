"""How a server that lives for weeks gives memory back."""

from __future__ import annotations

import ctypes
import sys

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # of malloc.h
_BYTES = 1 << 20


def keep_memory_flat() -> bool:
    """Have glibc give buffers of 1 MiB and more back to the system when they are freed; False elsewhere.

    By default glibc raises that limit to 32 MiB as soon as such a buffer is freed; images, maps and pictures
    then come from heaps, of which one a thread is left full of holes.
    """
    if not sys.platform.startswith("linux"):
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):  # musl has none
        return False
    return bool(mallopt(_MMAP_THRESHOLD, _BYTES) and mallopt(_TRIM_THRESHOLD, _BYTES))
