"""The one way a network is trained here: Adam on the sum of its losses, with a schedule, a log, checkpoints
and exact resume.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from pydantic import Field
from torch import Tensor, nn
from tqdm import tqdm

from thfr import distributed
from thfr.config import OptimisationConfig
from thfr.errors import InputError
from thfr.methods.common.checkpoint import load_checkpoint, save_checkpoint
from thfr.methods.common.context import FitContext
from thfr.runs import files
from thfr.runs.folder import append_log

_LOG_EVERY = 10  # steps

Losses = Callable[[int], Mapping[str, Tensor]]
"""The parts of the loss by name, each a tensor of shape [], at a step."""
Schedule = Callable[[int, int], float]
"""Factor on the learning rate at a step, from 0, of so many."""


def constant(step: int, total: int) -> float:
    """No schedule."""
    return 1.0


def warm_up_and_decay(step: int, total: int) -> float:
    """20 steps of warm-up, then constant, linear decay over the last 30 %."""
    left = 1 - step / total
    return min(1.0, (step + 1) / 20) * min(1.0, left / 0.3 + 0.02)


class AdamConfig(OptimisationConfig):
    """Training with Adam."""

    betas: tuple[float, float] = (0.9, 0.999)
    weight_decay: float = Field(default=0.0, ge=0)
    decay: bool = False
    """Warm up over 20 steps and let the learning rate fall over the last 30 % of them, for trainings that are
    short; False: a constant rate.
    """

    def optimiser(self, network: nn.Module, images: int, device: torch.device) -> Optimiser:
        """These settings for a network on ``device`` and a training set of ``images`` images."""
        schedule = warm_up_and_decay if self.decay else constant
        options = {"betas": self.betas, "weight_decay": self.weight_decay}
        return Optimiser.of(self, network, images, device, schedule, **options)


class Optimiser:
    """Adam on a network's device, for ``total`` steps.

    Args:
        network: on ``device``; parameters that require no gradient are left alone.
        learning_rate: times ``schedule(step, total)`` at each step.
        precision: ``fp32``, ``bf16`` (automatic mixed precision), or ``auto``: bf16 where the processor or
            GPU multiplies in it faster. The attribute holds which of the first two it is.
    """

    def __init__(
        self,
        network: nn.Module,
        device: torch.device,
        total: int,
        learning_rate: float,
        *,
        betas: tuple[float, float] = (0.9, 0.999),
        weight_decay: float = 0.0,
        schedule: Schedule = constant,
        precision: str = "auto",
    ) -> None:
        self.network, self.device, self.total = network, device, total
        self.learning_rate, self.schedule = learning_rate, schedule
        self.precision = _resolved(precision, device)
        self.adam = torch.optim.Adam(
            [parameter for parameter in network.parameters() if parameter.requires_grad],
            lr=learning_rate,
            betas=betas,
            weight_decay=weight_decay,
            fused=True,
        )

    @classmethod
    def of(
        cls,
        settings: OptimisationConfig,
        network: nn.Module,
        images: int,
        device: torch.device,
        schedule: Schedule = constant,
        **options: Any,
    ) -> Optimiser:
        """That of a method's settings, for a training set of ``images`` images."""
        options |= {"schedule": schedule, "precision": settings.precision}
        return cls(network, device, settings.steps(images), settings.learning_rate, **options)

    def computing(self) -> torch.autocast:
        """Where the network computes in the precision of training."""
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.precision == "bf16")

    def step(self, number: int, losses: Mapping[str, Tensor]) -> None:
        """Step ``number``, from 0, down the gradient of the sum of ``losses``, each of shape []."""
        for group in self.adam.param_groups:
            group["lr"] = self.learning_rate * self.schedule(number, self.total)
        self.adam.zero_grad(set_to_none=True)
        torch.stack(list(losses.values())).sum().backward()
        self.adam.step()

    def run(
        self,
        losses: Callable[[int], Mapping[str, Tensor]],
        context: FitContext,
        started: float | None = None,
        *,
        checkpoint: str = files.CHECKPOINT,
        logged: bool = True,
        command: str = "train",
    ) -> float:
        """Take all steps, resuming from the checkpoint in ``context.out`` if there is one.

        A run that was killed ends bit for bit as an unbroken one (on one machine, with as many threads) if
        all that ``losses`` draws is a function of the step (:func:`thfr.random_streams.generator`). Losses
        are read, and so waited for, every tenth step only.

        Under ``torchrun`` (DistributedDataParallel) each process takes its share of every batch
        (:func:`thfr.distributed.mine`): the steps are those of one process but for the order of sums, and,
        in a network with batch norm, for its statistics, which are those of a share. The number of processes
        may change when a run is resumed.

        Args:
            losses: the parts of the loss by name, each a tensor of shape [], at the step of that number:
                means over the process's share of a batch.
            started: ``time.monotonic()`` when the fitting began; None: now.
            checkpoint: name of the checkpoint's file.
            logged: append every tenth step to the run's log.
            command: first word of errors, and of the progress bar.

        Returns:
            Seconds spent since ``started``, in the runs before this one too.

        Raises:
            InputError: the checkpoint is damaged or of another network.
            RuntimeError: the loss is not finite any more.
        """
        started = time.monotonic() if started is None else started
        path = context.out / checkpoint
        done, spent = self._resumed(path, command)
        if done and logged and distributed.is_main():
            append_log(context.out, resumed_at=done)
        saved = time.monotonic()
        self.network.train()
        parallel = self._parallel(losses)
        with tqdm(None, command, self.total, unit="step", disable=not context.progress, initial=done) as bar:
            while done < self.total:
                parts = parallel(done)
                self.step(done, parts)
                done += 1
                bar.update()
                seconds = spent + time.monotonic() - started
                if done % _LOG_EVERY == 0 or done == self.total:
                    values = _finite(_averaged(parts), command, done)
                    loss = sum(values.values())
                    bar.set_postfix(loss=f"{loss:.5f}")
                    if logged and distributed.is_main():
                        append_log(context.out, step=done, loss=loss, parts=values, seconds=round(seconds, 3))
                due = time.monotonic() - saved >= context.checkpoint_seconds
                if done < self.total and due and distributed.is_main():
                    save_checkpoint(path, self.network, self.adam, done, {"seconds": seconds})
                    saved = time.monotonic()
        return spent + time.monotonic() - started

    def _parallel(self, losses: Losses) -> Losses:
        """``losses`` whose gradients are averaged over the processes, if there are several."""
        if distributed.world() == 1:
            return losses
        network = _Losses(self.network, losses)
        return nn.parallel.DistributedDataParallel(network)

    def _resumed(self, path: Path, command: str) -> tuple[int, float]:
        """Restore a checkpoint if there is one: its step, and the seconds spent before it."""
        if not path.is_file():
            return 0, 0.0
        step, metadata = load_checkpoint(path, self.network, self.adam, command)
        if not 0 < step <= self.total:
            raise InputError(f"{command}: the checkpoint {path} is at step {step}, this run has {self.total}")
        return step, metadata.get("seconds", 0.0)


class _Losses(nn.Module):
    """A network whose forward pass is its losses, as DistributedDataParallel wants it."""

    def __init__(self, network: nn.Module, losses: Callable[[int], Mapping[str, Tensor]]) -> None:
        super().__init__()
        self.network, self._losses = network, losses

    def forward(self, step: int) -> Mapping[str, Tensor]:
        return self._losses(step)


def _averaged(losses: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
    """The means over all processes."""
    if distributed.world() == 1:
        return losses
    values = torch.stack([loss.detach().float() for loss in losses.values()])
    torch.distributed.all_reduce(values)
    return dict(zip(losses, values / distributed.world(), strict=True))


def _finite(losses: Mapping[str, Tensor], command: str, step: int) -> dict[str, float]:
    """The losses as numbers; RuntimeError if their sum is not finite."""
    values = {name: float(loss.detach()) for name, loss in losses.items()}
    total = sum(values.values())
    if not math.isfinite(total):
        raise RuntimeError(f"{command}: the loss is {total} at step {step}; try a lower learning rate")
    return values


def _resolved(precision: str, device: torch.device) -> str:
    if precision != "auto":
        return precision
    if device.type == "cuda":
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp32"
    fast = torch.cpu._is_amx_tile_supported() or torch.cpu._is_avx512_bf16_supported()
    return "bf16" if fast else "fp32"
