"""DRAEM's settings."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field, model_validator

from thfr.config import ModelConfig, OptimisationConfig, RunConfig
from thfr.methods.draem.networks import MULTIPLE


class DRAEMModelConfig(ModelConfig):
    """The two networks. ``backbone`` is not used; its default is the one whose weights come with us."""

    follows_backbone: ClassVar[bool] = False

    backbone: str = "tf_efficientnet_lite0"
    reconstruction_width: int = Field(default=128, ge=1)
    """Channels of the auto-encoder's first stage."""
    discrimination_width: int = Field(default=64, ge=1)
    """Channels of the U-Net's first stage."""
    network_size: int | None = Field(default=None, ge=MULTIPLE, multiple_of=MULTIPLE)
    """Shorter edge of what the networks see, at most that of ``size``; None: of ``size``, rounded down to a
    multiple of 32.
    """
    smoothing: int = Field(default=21, ge=1)
    """Edge of the mean filter over the map, in pixels at ``size``; odd."""

    @model_validator(mode="after")
    def _fits(self) -> DRAEMModelConfig:
        edge = min(self.size)
        if self.network_size is not None and self.network_size > edge:
            raise ValueError(f"network_size: expected at most size, {edge}, got {self.network_size}")
        if self.smoothing % 2 == 0 or self.smoothing > edge:
            raise ValueError(f"smoothing: expected an odd edge of at most {edge}, got {self.smoothing}")
        return self

    @property
    def seen(self) -> tuple[int, int]:
        """(height, width) that the networks see: about of the aspect of ``size``."""
        if self.network_size is None:
            return self.size[0] // MULTIPLE * MULTIPLE, self.size[1] // MULTIPLE * MULTIPLE
        shorter = min(self.size)
        height, width = (
            max(round(edge * self.network_size / shorter / MULTIPLE), 1) * MULTIPLE for edge in self.size
        )
        return height, width


class DRAEMTrainingConfig(OptimisationConfig):
    """How the networks are fitted."""

    epochs: int = Field(default=700, ge=1)
    learning_rate: float = Field(default=1e-4, gt=0)
    anomalous: float = Field(default=0.5, gt=0, le=1)
    """Share of the images of a step that get a simulated anomaly."""
    rotation: float = Field(default=45.0, ge=0, le=180)
    """Images are turned by up to so many degrees either way; 0 where products always lie the same way."""
    textures: str | None = None
    """A folder of texture photographs, with sub-folders; None: generated ones."""


class DRAEMConfig(RunConfig):
    """A run of DRAEM."""

    title: ClassVar[str] = "DRAEM"
    paper: ClassVar[str] = (
        "Zavrtanik et al., DRAEM - A discriminatively trained reconstruction embedding for surface anomaly "
        "detection, ICCV 2021"
    )
    uses_backbone: ClassVar[bool] = False

    method: Literal["draem"] = "draem"
    model: DRAEMModelConfig = DRAEMModelConfig()
    training: DRAEMTrainingConfig = DRAEMTrainingConfig()
