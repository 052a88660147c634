"""The native module believes no Python: whatever the tuples say, if the memory that they name is there."""

from __future__ import annotations

import contextlib
import ctypes
import math
import random
import re
from typing import Any

import numpy as np
import pytest
from support.fuzz_arguments import bin_arguments, bins, limits
from support.fuzz_driver import OPERATORS, REGISTERED, attempt
from support.fuzz_values import JUNK
from thfr.evaluation.localisation import Question, TestPixels

from thfr_ext import _C
from thfr_ext.metrics.bins import bins_area, merge_bins

pytestmark = pytest.mark.filterwarnings("ignore:Casting complex values to real")


BYTES = {0: 4, 1: 8, 2: 2, 3: 2, 4: 1, 5: 8}


def is_view(value: Any) -> bool:
    """Address, type, sizes, strides; not a question of ``sweep_figures``, which holds three of them."""
    return (
        isinstance(value, tuple)
        and len(value) == 4
        and not isinstance(value[1], tuple)
        and all(isinstance(part, tuple) for part in value[2:])
    )


def other_view(rng: random.Random, given: Any, others: list[Any]) -> Any:
    """A tuple that stays within the memory of ``given``, or that is no tensor at all."""
    address, code, sizes, strides = given
    kind = rng.randrange(8)
    if kind == 0 or code not in BYTES or not all(isinstance(n, int) and 0 <= n < 2**20 for n in sizes):
        return rng.choice(JUNK)
    if kind == 1:
        parts = [0, code, sizes, strides]
        parts[rng.randrange(4)] = rng.choice(
            ["x", None, 1.5, 2**70, -1, (), (-1,), ("x",), (2**40, 2**40), (2**70,)]
        )
        return (*parts, 0) if rng.random() < 0.1 else tuple(parts) if parts[0] == 0 else given
    if kind == 2:
        return rng.choice(others)
    if kind == 3 and sizes:
        i = rng.randrange(len(sizes))
        return address, code, (*sizes[:i], rng.randrange(sizes[i] + 1), *sizes[i + 1 :]), strides
    if kind == 4 and sizes:
        return address, code, sizes[1:], strides[1:]
    if kind == 5:
        return address, code, (1, *sizes), (0, *strides)
    if kind == 6:
        return address, rng.choice([c for c, n in BYTES.items() if n <= BYTES[code]]), sizes, strides
    return address, code, sizes[::-1], strides[::-1]


def other_value(rng: random.Random, value: Any, others: list[Any]) -> Any:
    if is_view(value):
        return other_view(rng, value, others)
    if isinstance(value, (list, tuple)) and value and rng.random() < 0.9:
        copy, i = list(value), rng.randrange(len(value))
        if rng.random() < 0.2:
            del copy[i]
        else:
            copy[i] = other_value(rng, copy[i], others)
        return type(value)(copy)
    if isinstance(value, (int, float)):
        return rng.choice([0, -1, 1, 7, 2**40, 2**70, math.nan, "x", None])
    return rng.choice(JUNK)


def views_in(value: Any) -> list[Any]:
    if is_view(value):
        return [value]
    return [v for part in value for v in views_in(part)] if isinstance(value, (list, tuple)) else []


class Memory:
    """Of some views, to be put back after calls that write anywhere in them."""

    def __init__(self, views: list[Any]) -> None:
        self.kept = []
        for address, code, sizes, strides in views:
            if 0 not in sizes:
                last = sum(stride * (n - 1) for n, stride in zip(sizes, strides, strict=True))
                self.kept.append((address, ctypes.string_at(address, BYTES[code] * (last + 1))))

    def restore(self) -> None:
        for address, content in self.kept:
            ctypes.memmove(address, content, len(content))


# cuda_* functions take addresses on the device, of which there are none without one.
NATIVE = [
    name for name in dir(_C) if callable(getattr(_C, name)) and not name.startswith(("build_", "cuda_"))
]


@pytest.mark.parametrize("name", NATIVE)
def test_native_module(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """After each of its real calls come calls with other arguments."""
    native, rng, refused, made = getattr(_C, name), random.Random(name), 0, 0

    def with_others(*arguments: Any) -> Any:
        nonlocal refused, made
        result, others = native(*arguments), views_in(arguments)
        memory = Memory(others)
        for _ in range(10):
            changed_arguments = list(arguments)
            for _ in range(rng.randrange(1, 3)):
                i = rng.randrange(max(len(arguments) - 1, 1))  # not the number of threads, the last
                changed_arguments[i] = other_value(rng, changed_arguments[i], others)
            made += 1
            try:
                native(*changed_arguments)
            except (ValueError, TypeError) as error:
                refused += 1
                words = rf"_C\.\w+: |{name}\(\): incompatible|nearest_templates: |greedy_coreset: |"
                words += r"merge_bins: "
                if not re.match(words, str(error)):
                    raise AssertionError(f"{changed_arguments}: {error!r}") from error
        memory.restore()
        return result

    monkeypatch.setattr(_C, name, with_others)
    for operator, (make, check) in REGISTERED.items():
        for case in range(8):
            arguments = make(random.Random(f"{operator} {case}"))
            attempt(operator, getattr(OPERATORS, operator), arguments, check, rf"{operator}: ")
    for case in range(8):
        rng_of_case = random.Random(f"{case}")
        figures_of_random_images(rng_of_case)
        with contextlib.suppress(ValueError):  # a score is NaN
            merge_bins(*bin_arguments(rng_of_case))
        bins_area(bins(rng_of_case), bins(rng_of_case), 50.0, limits(rng_of_case))
    assert made // 4 < refused < made


def figures_of_random_images(rng: random.Random) -> None:
    """The one caller of ``sweep_figures``, which is no operator."""
    pixels, numbers = TestPixels(), np.random.default_rng(rng.randrange(2**32))
    for number in range(rng.randrange(1, 4)):
        shape = (rng.randrange(1, 9), rng.randrange(1, 9))
        mask = numbers.random(shape) > rng.random()
        pixels.add(number, rng.choice("ab"), numbers.random(shape).astype(np.float32), mask)
    pixels.figures([Question(("a", "b"), "area", (0.1, 0.3)), Question(("a",), "own", (1.0,))])
