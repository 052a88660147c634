"""Steps of Adam, as the methods take them that train a student."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from pydantic import Field
from torch import Tensor, nn

from thfr.config import OptimisationConfig
from thfr.methods.common.loop import rate_at
from thfr.methods.common.precision import resolve_precision


class AdamConfig(OptimisationConfig):
    """Training with Adam."""

    betas: tuple[float, float] = (0.9, 0.999)
    weight_decay: float = Field(default=0.0, ge=0)
    decay: bool = False
    """Warm up over 20 steps and let the learning rate fall over the last 30 % of them, for trainings that are
    short; False: a constant rate.
    """


class AdamSteps:
    """The optimiser of a network on its device, its schedule and its precision."""

    def __init__(self, settings: AdamConfig, network: nn.Module, images: int, device: torch.device) -> None:
        self.settings, self.device = settings, device
        self.total = settings.steps(images)
        self.precision = resolve_precision(settings.precision, device)
        self.optimizer = torch.optim.Adam(
            network.parameters(),
            lr=settings.learning_rate,
            betas=settings.betas,
            weight_decay=settings.weight_decay,
            fused=True,
        )

    def computing(self) -> torch.autocast:
        """Where the network computes in the precision of training."""
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.precision == "bf16")

    def take(self, step: int, losses: Mapping[str, Tensor]) -> dict[str, float]:
        """Go down the gradient of the sum of ``losses``; gives them as numbers."""
        if self.settings.decay:
            for group in self.optimizer.param_groups:
                group["lr"] = self.settings.learning_rate * rate_at(step, self.total)
        self.optimizer.zero_grad(set_to_none=True)
        torch.stack(list(losses.values())).sum().backward()
        self.optimizer.step()
        return {name: float(loss.detach()) for name, loss in losses.items()}
