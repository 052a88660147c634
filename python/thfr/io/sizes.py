"""Sizes of a network's input and grids of tiles, as people write them: plain numbers, nothing imported."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

Size = tuple[int, int]
"""(height, width) in pixels."""


def parse_size(value: Any) -> Size:
    """``256``, ``"256"`` (a square), ``"256x640"`` (HEIGHTxWIDTH) or ``[256, 640]`` as (height, width).

    Raises:
        ValueError: anything else.
    """
    return _pair(value, "256 (a square) or 256x640 (HEIGHTxWIDTH)", single=True)


def parse_grid(value: Any) -> Size:
    """``"3x2"`` (ROWSxCOLUMNS) or ``[3, 2]`` as (rows, columns).

    Raises:
        ValueError: anything else, or a number below 1.
    """
    return _pair(value, "3x2 (ROWSxCOLUMNS)", single=False)


def _pair(value: Any, expected: str, single: bool) -> Size:
    parts: Sequence[Any] = (value,)
    if isinstance(value, str):
        parts = value.lower().replace("×", "x").split("x")
    elif isinstance(value, (list, tuple)):
        parts = value
    try:
        if any(isinstance(part, (bool, float)) for part in parts):
            raise ValueError
        numbers = [int(part) for part in parts]
    except (TypeError, ValueError):
        numbers = []
    if single and len(numbers) == 1:
        numbers *= 2
    if len(numbers) != 2 or min(numbers) < 1:
        raise ValueError(f"expected {expected}, got {value!r:.60}")
    return numbers[0], numbers[1]


def plain(size: Size) -> int | list[int]:
    """The size as configuration files have it: one number for a square."""
    return size[0] if size[0] == size[1] else list(size)


def in_words(size: Size) -> int | str:
    """The size for JSON and tables: ``256`` for a square, else ``"256x640"`` (HEIGHTxWIDTH)."""
    return size[0] if size[0] == size[1] else f"{size[0]}x{size[1]}"


def starts(edge: int, count: int, overlap: float) -> list[int]:
    """Where along one axis ``count`` tiles of ``edge`` pixels begin, each sharing ``overlap`` of its edge
    with the next one.
    """
    step = edge - round(edge * overlap)
    return [number * step for number in range(count)]


def canvas(size: Size, tiles: Size, overlap: float) -> Size:
    """(height, width) that tiles of ``size`` cover together."""
    height, width = (starts(edge, count, overlap)[-1] + edge for edge, count in zip(size, tiles, strict=True))
    return height, width


def fitted(aspect: float, area: int, multiple: int, least: int = 64, most: int = 2048) -> Size:
    """The size of about ``area`` pixels whose width is ``aspect`` times its height, each edge a multiple of
    ``multiple`` from ``least`` to ``most``.

    Of the sizes around the exact one, the one is taken whose aspect is nearest, then whose area is.
    """
    height = (area / aspect) ** 0.5

    def around(edge: float) -> list[int]:
        low = int(edge // multiple) * multiple
        bounds = -(-least // multiple) * multiple, most // multiple * multiple
        return sorted({min(max(one, bounds[0]), bounds[1]) for one in (low, low + multiple)})

    def badness(size: Size) -> tuple[float, float]:
        wrong = size[1] / size[0] / aspect
        large = size[0] * size[1] / area
        return max(wrong, 1 / wrong) * max(large, 1 / large) ** 0.5, large

    return min(((one, two) for one in around(height) for two in around(height * aspect)), key=badness)
