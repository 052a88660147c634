"""Which network a configuration asks for."""

from __future__ import annotations

from thfr.methods.thfr.config import THFRModelConfig
from thfr.methods.thfr.light import LightNetwork
from thfr.methods.thfr.network import RestorationNetwork, THFRNetwork


def make_network(config: THFRModelConfig, channels: tuple[int, ...]) -> RestorationNetwork:
    """An untrained network for levels of these ``channels``."""
    return (LightNetwork if config.decoder == "light" else THFRNetwork)(config, channels)
