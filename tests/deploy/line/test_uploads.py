"""Damaged and hostile uploads: the right status each time, no crash, no memory kept. Some two hundred; a
thousand with THFR_UPLOADS=1000.
"""

from __future__ import annotations

import io
import os
import random
import struct
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from .conftest import Brightness, encoded, picture

SHARE = min(1.0, int(os.environ.get("THFR_UPLOADS", "200")) / 1000)
KINDS = ("PNG", "JPEG", "BMP", "TIFF", "WEBP")


def resident() -> int:
    """Bytes of memory that this process holds."""
    pages = Path("/proc/self/statm").read_text().split()[1]
    return int(pages) * 4096


def chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def png_claiming(width: int, height: int) -> bytes:
    """A PNG of a few bytes whose header claims any size."""
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(b"\0" * 100)) + chunk(b"IEND", b"")


def bmp_claiming(width: int, height: int) -> bytes:
    data = bytearray(encoded(picture(), "BMP"))
    data[18:26] = struct.pack("<ii", width, height)
    return bytes(data)


def bomb() -> bytes:
    """64 million pixels in a few kilobytes."""
    buffer = io.BytesIO()
    Image.fromarray(np.zeros((8000, 8000), np.uint8)).save(buffer, "PNG")
    return buffer.getvalue()


def text_bomb() -> bytes:
    """A small PNG with a compressed text that unpacks to 200 MB."""
    whole = encoded(picture())
    text = chunk(b"zTXt", b"Comment\0\0" + zlib.compress(b"A" * 200_000_000))
    return whole[:33] + text + whole[33:]


def hostile() -> Iterator[tuple[bytes, set[int]]]:
    rng = random.Random(0)
    whole = {kind: encoded(picture(64, 80, 255), kind) for kind in KINDS}
    # BMP and JPEG in part readable, and flipped bytes, may still be images: 200 is right for them
    for _ in range(round(300 * SHARE)):
        data = whole[rng.choice(KINDS)]
        yield data[: rng.randrange(len(data))], {200, 415, 422}
    for _ in range(round(400 * SHARE)):
        data = bytearray(whole[rng.choice(KINDS)])
        for _ in range(rng.randint(1, 30)):
            data[rng.randrange(len(data) if rng.random() < 0.3 else min(100, len(data)))] = rng.randrange(256)
        yield bytes(data), {200, 415, 422}
    for _ in range(round(200 * SHARE)):
        yield rng.randbytes(rng.randrange(2000)), {415}
    for magic in (
        b"GIF89a",
        b"%PDF-1.4",
        b"PK\3\4",
        b"\x7fELF",
        b"%!PS-Adobe-3.0 EPSF-3.0\n",
        b"P6 9 9 255\n",
    ):
        yield magic + rng.randbytes(500), {415}
    for claim in ((2**31 - 1, 1), (2**31 - 1, 2**31 - 1), (50_000, 50_000), (5001, 1000)):
        yield png_claiming(*claim), {422}
        yield bmp_claiming(*claim), {422}
    yield png_claiming(0, 0), {415, 422}
    yield png_claiming(2**32 - 1, 2**32 - 1), {415, 422}
    yield png_claiming(2000, 2000), {422}  # within the limit, but the pixels are missing
    yield bomb(), {422}
    yield text_bomb(), {415, 422}
    yield b"x" * (3 << 20), {413}
    for _ in range(round(80 * SHARE)):  # half a form
        yield b"--b\r\nContent-Disposition: form-data; name=image" + rng.randbytes(60), {415}


@pytest.mark.slow
def test_hostile_uploads(client_of: Callable[..., Any]) -> None:
    client = client_of(Brightness(), max_bytes=2 << 20, max_pixels=5_000_000)
    counts: Counter[int] = Counter()
    before = 0
    for number, (data, allowed) in enumerate(hostile()):
        status = client.post("/v1/inspect", content=data).status_code
        assert status in allowed, f"upload {number}, {data[:40]!r}: {status}, expected {allowed}"
        counts[status] += 1
        if number == round(500 * SHARE):
            before = resident()
    assert sum(counts.values()) >= 1000 * SHARE
    assert all(counts[status] for status in (200, 413, 415, 422)), counts
    grown = (resident() - before) / (1 << 20)
    assert grown < 100
    print(f"{sum(counts.values())} uploads, {dict(counts)}, {grown:.0f} MiB more than halfway")
    assert client.post("/v1/inspect", content=encoded(picture(spot=255))).json()["verdict"] == "bad"


def test_sixteen_bits_become_eight_by_the_high_byte(client_of: Callable[..., Any]) -> None:
    deep = Image.fromarray(np.full((9, 9), 0x80FF, np.uint16))
    buffer = io.BytesIO()
    deep.save(buffer, "PNG")
    answer = client_of(Brightness()).post("/v1/inspect", content=buffer.getvalue())
    assert answer.json()["score"] == pytest.approx(128 / 255)
