"""What watches detectors while they score images: how long their steps take, what their features are like."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, TypeVar

import numpy as np
from torch import Tensor

Timer = Callable[[str, Callable[[], Any]], Any]
"""Runs a step, given its name, and gives back its result."""

_Result = TypeVar("_Result")
_timer: ContextVar[Timer | None] = ContextVar("timer", default=None)


@contextmanager
def timed_stages(timer: Timer) -> Iterator[None]:
    """Let ``timer`` run the stages of detectors that score images in this thread."""
    token = _timer.set(timer)
    try:
        yield
    finally:
        _timer.reset(token)


_observer: ContextVar[Callable[[np.ndarray], None] | None] = ContextVar("observer", default=None)


@contextmanager
def observed_features() -> Iterator[list[np.ndarray]]:
    """The mean features, float32 [B,C], of the batches that detectors score in this thread meanwhile; of a
    batch of images that are seen in tiles one array a place. An observer around this one sees them too.
    """
    found: list[np.ndarray] = []
    outer = _observer.get()

    def tell(means: np.ndarray) -> None:
        found.append(means)
        if outer is not None:
            outer(means)

    token = _observer.set(tell)
    try:
        yield found
    finally:
        _observer.reset(token)


def image_means(
    means: Sequence[np.ndarray],  # float32 [B,C] each, of observed_features
    tiles: int,
) -> np.ndarray | None:  # float32 [N,C]
    """The mean features of whole images; None where nothing was observed."""
    parts = [np.mean(means[start : start + tiles], 0) for start in range(0, len(means), tiles)]
    return np.concatenate(parts) if parts else None


def stage(name: str, step: Callable[[], _Result]) -> _Result:
    """Run a step that has a name; see :func:`timed_stages`."""
    timer = _timer.get()
    return step() if timer is None else timer(name, step)


def observe(
    levels: Sequence[Tensor],  # [B,C_l,H_l,W_l]
) -> None:
    """Tell of the features of a batch; see :func:`observed_features`."""
    tell = _observer.get()
    if tell is not None:
        tell(levels[-1].float().mean((2, 3)).cpu().numpy())
