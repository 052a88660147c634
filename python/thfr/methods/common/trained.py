"""The detector of methods that learn one network, step by step."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from thfr.methods.base import ConfigT, Detector
from thfr.methods.common.context import Precision

TrainedT = TypeVar("TrainedT", bound="TrainedDetector[Any]")


class TrainedDetector(Detector[ConfigT]):
    """All that the method learns is in ``network``."""

    network: Any

    def __init__(
        self,
        config: ConfigT,
        extractor: Any,
        network: nn.Module,
        device: torch.device | str = "cpu",
        precision: Precision = "fp32",
    ) -> None:
        super().__init__(config, extractor, device, precision)
        self.network = self._placed(network)

    @staticmethod
    @abstractmethod
    def make_network(config: Any, extractor: Any) -> nn.Module:
        """The method's network, of random weights from torch's global generator."""

    @classmethod
    def seeded_network(cls, config: Any, extractor: Any, device: torch.device) -> Any:
        """The network that a fitting starts with."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(config.training.seed)
            return cls.make_network(config, extractor).to(device)

    def state(self) -> dict[str, Tensor]:
        return self.network.state_dict()

    @classmethod
    def from_state(
        cls: type[TrainedT], config: Any, extractor: Any, state: dict[str, Tensor], *options: Any
    ) -> TrainedT:
        network = cls.make_network(config, extractor)
        network.load_state_dict(state)
        return cls(config, extractor, network, *options)
