"""The loop of every method that is trained by gradient descent: progress, log, checkpoints, exact resume."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn
from tqdm import tqdm

from thfr.errors import InputError
from thfr.methods.base import FitContext
from thfr.methods.common.checkpoint import load_checkpoint, save_checkpoint
from thfr.runs import files

_LOG_EVERY = 10  # steps


def optimise(
    context: FitContext,
    network: nn.Module,
    optimizer: torch.optim.Optimizer,
    total: int,
    step: Callable[[int], Mapping[str, float]],
    started: float | None = None,
) -> float:
    """Take ``total`` optimisation steps, going on from the run folder's checkpoint if there is one.

    A run that was killed ends bit for bit as an unbroken one (on one machine, with as many threads) if all
    that ``step`` changes is in the state of ``network`` and ``optimizer`` and all that it draws is a function
    of the step (:func:`thfr.methods.common.batches.generator`).

    Args:
        network: put into training mode.
        step: takes the step of that number, from 0, and gives the parts of its loss by name.
        started: ``time.monotonic()`` when the fitting began; None: now.

    Returns:
        Seconds spent since ``started``, in the runs before this one too.

    Raises:
        InputError: the checkpoint is damaged or of another network.
        RuntimeError: the loss is not finite any more.
    """
    started = time.monotonic() if started is None else started
    path = context.out / files.CHECKPOINT
    done, facts = _resume(path, network, optimizer, total)
    spent = facts.get("seconds", 0.0)
    saved = time.monotonic()
    network.train()
    with tqdm(total=total, initial=done, desc="train", unit="step", disable=not context.progress) as bar:
        while done < total:
            parts = step(done)
            done += 1
            bar.update()
            now = time.monotonic()
            if done % _LOG_EVERY == 0 or done == total:
                loss = sum(parts.values())
                if not abs(loss) < float("inf"):
                    raise RuntimeError(f"train: the loss is {loss} at step {done}; try a lower learning rate")
                bar.set_postfix(loss=f"{loss:.4f}")
                seconds = round(spent + now - started, 3)
                log(context.out, step=done, loss=loss, parts=dict(parts), seconds=seconds)
            if done < total and now - saved >= context.checkpoint_seconds:
                save_checkpoint(path, network, optimizer, done, {"seconds": spent + now - started})
                saved = time.monotonic()
    return spent + time.monotonic() - started


def log(out: Path, **values: Any) -> None:
    """Append a line to the run's log."""
    with (out / files.LOG).open("a", encoding="utf-8") as file:
        file.write(json.dumps(values) + "\n")


def _resume(
    path: Path, network: nn.Module, optimizer: torch.optim.Optimizer, total: int
) -> tuple[int, dict[str, float]]:
    if not path.is_file():
        return 0, {}
    step, facts = load_checkpoint(path, network, optimizer)
    if not 0 < step <= total:
        raise InputError(f"train: the checkpoint {path} is at step {step}, this run has {total}")
    log(path.parent, resumed_at=step)
    return step, facts


def rate_at(step: int, total: int) -> float:
    """Factor on the learning rate: 20 steps of warm-up, then constant, linear decay over the last 30 %."""
    left = 1 - step / total
    return min(1.0, (step + 1) / 20) * min(1.0, left / 0.3 + 0.02)
