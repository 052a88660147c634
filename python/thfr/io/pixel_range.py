"""Which pixel values are black and white: a property of a run, found on its training images.

A 12-bit camera's values lie in 0 to 4095 of a 16-bit file. Taking a file's own brightest pixel for white
would make every image another brightness; taking 65535 makes all of them nearly black. So the range is found
once, on the training images (or given, ``--bit-depth``), stored with the run and applied alike ever after.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from thfr.errors import InputError
from thfr.io.decoding import container, decode, read_header
from thfr.io.depths import BIT_DEPTHS
from thfr.io.names import printable
from thfr.plain import Plain

_BEYOND = 0.001
"""Share of samples above white from which on a file is said to be outside of the range."""


@dataclass(frozen=True)
class PixelRange(Plain):
    """``low`` is black, ``high`` is white; between them linear."""

    container: str
    """What the run's files hold: ``uint8``, ``integer`` (more than 8 bits) or ``float``."""
    low: float
    high: float

    def __post_init__(self) -> None:
        if self.container not in ("uint8", "integer", "float") or not self.low < self.high:
            raise InputError(
                "PixelRange: expected container uint8, integer or float and low < high, got "
                f"{self.container!r}, {self.low}, {self.high}"
            )

    @classmethod
    def of_bits(cls, bits: int) -> PixelRange:
        """0 to 2^bits - 1.

        Raises:
            InputError: ``bits`` is none of :data:`BIT_DEPTHS`.
        """
        if bits not in BIT_DEPTHS:
            raise InputError(f"PixelRange: bit depth must be one of {BIT_DEPTHS}, got {bits!r}")
        return cls("uint8" if bits == 8 else "integer", 0.0, float((1 << bits) - 1))

    @classmethod
    def of_values(cls, kind: str, low: float, high: float) -> PixelRange:
        """The range that files of that container with values from ``low`` to ``high`` most likely have.

        Integers from 0 up: the smallest of :data:`BIT_DEPTHS` that holds ``high``. Floats from 0 up: 0 to 1,
        or as integers. Else: ``low`` to ``high``.
        """
        if kind == "uint8":
            return cls.of_bits(8)
        if kind == "float" and low >= 0 and high <= 1:
            return cls("float", 0.0, 1.0)
        if low >= 0 and high < 1 << BIT_DEPTHS[-1]:
            bits = next(bits for bits in BIT_DEPTHS if high < 1 << bits)
            return cls(kind, 0.0, float((1 << bits) - 1))
        return cls(kind, low, high if high > low else low + 1)

    def in_words(self) -> str:
        """``12 bits`` or ``values from 0.5 to 3``."""
        for bits in BIT_DEPTHS:
            if self.low == 0 and self.high == (1 << bits) - 1:
                return f"{bits} bits"
        return f"values from {self.low:g} to {self.high:g}"

    def scaled(self, pixels: np.ndarray) -> tuple[np.ndarray, list[str]]:
        """Pixels with ``low`` at 0 and ``high`` at 255, cut off there, and notes on what lies outside.

        8-bit pixels of an 8-bit range stay as they are, uint8; everything else becomes float32, so that no
        precision is lost before a resize. A file of another container is scaled by its own range, 8 bits to 8
        bits; that is noted.
        """
        kind = container(pixels)
        notes = []
        own = self
        if kind != self.container and not (kind == "uint8" and self.high == 255):
            own = PixelRange.of_values(kind, float(pixels.min()), float(pixels.max()))
            notes.append(
                f"{own.in_words()} ({pixels.dtype}) in a run of {self.in_words()} ({self.container})"
            )
        else:
            beyond = float(((pixels > self.high) | (pixels < self.low)).mean()) if kind != "uint8" else 0.0
            if beyond > _BEYOND:
                notes.append(
                    f"{beyond:.1%} of the values lie outside of the run's {self.in_words()} "
                    f"(up to {pixels.max():g})"
                )
        if kind == "uint8":
            return pixels, notes
        values = pixels.astype(np.float32)
        values -= np.float32(own.low)
        values *= np.float32(255 / (own.high - own.low))
        return np.clip(values, 0, 255, out=values), notes


EIGHT_BITS = PixelRange.of_bits(8)


def find_pixel_range(
    paths: Sequence[str | os.PathLike[str]],
    bit_depth: int | None = None,
    max_pixels: int | None = None,
) -> PixelRange:
    """The range of a run from its training images; those of more than 8 bits are decoded, one at a time.

    Where 8-bit and deeper files are mixed, the deeper ones decide (:meth:`PixelRange.scaled` notes the
    others). A file that cannot be read is passed over: loading the images names all of them at once.

    Args:
        bit_depth: one of :data:`BIT_DEPTHS`, to take instead of what is found.

    Raises:
        InputError: no path, or a bit depth that is none.
    """
    if not paths:
        raise InputError("find_pixel_range: paths is empty")
    if bit_depth is not None and bit_depth not in BIT_DEPTHS:
        raise InputError(f"find_pixel_range: bit depth must be one of {BIT_DEPTHS}, got {bit_depth!r}")
    extremes: dict[str, tuple[float, float]] = {}
    for path in paths:
        try:
            if read_header(path).bits <= 8:
                continue
            found = decode(path, max_pixels=max_pixels)
        except InputError:
            continue
        low, high = float(found.pixels.min()), float(found.pixels.max())
        before = extremes.get(found.container, (low, high))
        extremes[found.container] = (min(before[0], low), max(before[1], high))
    extremes.pop("uint8", None)  # colour of more than 8 bits that only came as 8
    if not extremes:
        return EIGHT_BITS if bit_depth is None else PixelRange.of_bits(bit_depth)
    if len(extremes) > 1:
        raise InputError(
            "find_pixel_range: the training images must hold one kind of pixels, got integers and floats in "
            f"{printable(Path(paths[0]).parent)}"
        )
    kind, (low, high) = next(iter(extremes.items()))
    if bit_depth is not None:
        return PixelRange(kind, 0.0, float((1 << bit_depth) - 1))
    return PixelRange.of_values(kind, low, high)
