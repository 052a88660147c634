"""Which images are shown as typical: by a rule, not by eye."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

Item = TypeVar("Item")


def typical(items: Sequence[Item], score: Callable[[Item], float], count: int = 1) -> list[Item]:
    """``count`` of the items, evenly spread over the order of their scores; one: that of the median score.

    Of ``n`` items in ascending order those of the indices (i + 1/2) n / count, rounded down, for i = 0, 1,
    ..., the highest score first; all of them if there are no more than ``count``.
    """
    ordered = sorted(items, key=score)
    count = min(count, len(ordered))
    indices = [int((index + 0.5) * len(ordered) / count) for index in range(count)]
    return [ordered[index] for index in reversed(indices)]
