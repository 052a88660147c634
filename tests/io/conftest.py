"""Writers of image files that Pillow cannot write."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

COLOUR_TYPES = {1: 0, 3: 2, 2: 4, 4: 6}  # by channels


def png16(path: Path, values: np.ndarray, filters: tuple[int, ...] = (0,), interlace: int = 0) -> None:
    """A 16-bit PNG of [H, W, C]; row r has the filter ``filters[r % len]``."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    height, width, channels = values.shape
    step = 2 * channels
    rows = values.astype(">u2").reshape(height, -1).view(np.uint8).astype(int)
    lines = []
    for number in range(height):
        kind = filters[number % len(filters)]
        line = bytearray([kind])
        for place in range(rows.shape[1]):
            left = rows[number, place - step] if place >= step else 0
            above = rows[number - 1, place] if number else 0
            corner = rows[number - 1, place - step] if number and place >= step else 0
            nearest = min((left, above, corner), key=lambda value: abs(left + above - corner - value))
            guess = (0, left, above, (left + above) // 2, nearest)[kind]
            line.append((rows[number, place] - guess) % 256)
        lines.append(bytes(line))
    header = struct.pack(">IIBBBBB", width, height, 16, COLOUR_TYPES[channels], 0, 0, interlace)
    content = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"".join(lines))) + chunk(b"IEND", b"")
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + content)


def pnm16(path: Path, values: np.ndarray, maximum: int) -> None:
    """A binary PGM of [H, W] or PPM of [H, W, 3] with two bytes a sample."""
    kind = "P6" if values.ndim == 3 else "P5"
    head = f"{kind}\n# camera\n{values.shape[1]} {values.shape[0]}\n{maximum}\n"
    path.write_bytes(head.encode() + values.astype(">u2").tobytes())


@pytest.fixture(scope="session")
def write_png16() -> Callable[..., None]:
    return png16


@pytest.fixture(scope="session")
def write_pnm16() -> Callable[..., None]:
    return pnm16
