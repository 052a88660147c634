"""The restoration network: bottlenecks, template-guided compensation and a decoder with outputs at three
levels.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn

from thfr.methods.common.resolution import doubled
from thfr.methods.thfr.bottlenecks import GlobalBottleneck, LocalBottleneck
from thfr.methods.thfr.compensation import Compensation
from thfr.methods.thfr.config import THFRModelConfig
from thfr.methods.thfr.layers import ResidualBlock, Scale, conv_norm


class DecoderStage(nn.Module):
    """One level of the decoder: doubles the resolution where the level before it was coarser, takes in the
    bottleneck and the template, gives features.
    """

    def __init__(self, inputs: int, channels: int, level: int, config: THFRModelConfig) -> None:
        super().__init__()
        width = max(channels, 64)
        strides = config.spec.strides
        self.stride = strides[level]
        self.doubles = level == 2 or strides[level] < strides[level + 1]
        self.up = conv_norm(inputs, width)
        self.before = ResidualBlock(width)
        self.after = ResidualBlock(width)
        self.head = nn.Conv2d(width, channels, 1)
        self.compensation: Compensation | None = None
        if config.uses_templates and level + 1 in config.compensation_levels:
            self.compensation = Compensation(
                width,
                channels,
                config.attention_heads,
                config.attention_temperature,
                config.prior_width,
                # 4096 keys at stride 4 would cost more than all else together
                pool=config.attention_pool if self.stride < 8 else 1,
            )
        self.width, self.residual = width, config.template_residual

    def forward(
        self, x: Tensor, local: Tensor | None, templates: Tensor | None, size: tuple[int, ...]
    ) -> tuple[Tensor, Tensor]:  # [B,width,*size] and [B,C,*size]
        x = self.up(doubled(x, size) if self.doubles else x)
        if local is not None:
            x = x + local
        x = self.before(x)
        if self.compensation is not None:
            assert templates is not None
            x, matched = self.compensation(x, templates, self.stride)
            x = self.after(x)
            return x, self.head(x) + matched if self.residual else self.head(x)
        x = self.after(x)
        return x, self.head(x)


class RestorationNetwork(nn.Module, ABC):
    """Restores three feature levels of a normal image from those of an image that may hold an anomaly.

    Everything that reaches the output has passed a bottleneck or comes from the template; there is no other
    path from the input. ``channels``: of the three levels.
    """

    def __init__(self, config: THFRModelConfig, channels: tuple[int, ...]) -> None:
        super().__init__()
        self.config, self.channels = config, channels
        self.use_global = config.variant != "lbn"
        self.use_local = config.variant != "gbn"
        for level, count in enumerate(channels):
            self.register_buffer(f"mean{level}", torch.zeros(1, count, 1, 1))
            self.register_buffer(f"std{level}", torch.ones(1, count, 1, 1))
        self.globally: nn.Module | None = None
        # without the global bottleneck the decoder starts from one learnt vector
        self.start = None
        if not self.use_global:
            self.start = nn.Parameter(torch.randn(1, config.bottleneck_width, 1, 1))

    def set_statistics(self, means: list[Tensor], deviations: list[Tensor]) -> None:
        """Set the per-channel mean and standard deviation [C_l] of the training features, by which inputs are
        scaled.
        """
        for level, (mean, deviation) in enumerate(zip(means, deviations, strict=True)):
            getattr(self, f"mean{level}").copy_(mean.view(1, -1, 1, 1))
            getattr(self, f"std{level}").copy_(deviation.clamp_min(1e-4).view(1, -1, 1, 1))

    def scales(self) -> list[Scale]:
        """What was set by :meth:`set_statistics`."""
        return [Scale(getattr(self, f"mean{level}"), getattr(self, f"std{level}")) for level in range(3)]

    def forward(
        self,
        features: list[Tensor],  # [B,C_l,H_l,W_l]
        templates: list[Tensor] | None = None,  # [B,K,C_l,H_l,W_l]; only where templates compensate
    ) -> list[Tensor]:
        """The restored features, in the shapes of ``features``."""
        if self.config.uses_templates != (templates is not None):
            need = "needs" if self.config.uses_templates else "takes no"
            raise ValueError(f"THFRNetwork: the variant {self.config.variant} {need} templates")
        return self.restore(features, templates)

    @abstractmethod
    def restore(self, features: list[Tensor], templates: list[Tensor] | None) -> list[Tensor]:
        """As :meth:`forward`, of what fits together."""

    def started(self, coarse: Tensor) -> Tensor:  # [B,C,H,W] -> [B,width,H/2,W/2]
        """What the decoder starts from without a global bottleneck."""
        assert self.start is not None
        batch, _, height, width = coarse.shape
        return self.start.expand(batch, -1, -(-height // 2), -(-width // 2))


class THFRNetwork(RestorationNetwork):
    """The network of ``decoder: full``."""

    def __init__(self, config: THFRModelConfig, channels: tuple[int, ...]) -> None:
        super().__init__(config, channels)
        if self.use_global:
            self.globally = GlobalBottleneck(config, channels)
        stages: list[DecoderStage] = []
        inputs = config.bottleneck_width
        for level in (2, 1, 0):
            stages.append(DecoderStage(inputs, channels[level], level, config))
            inputs = stages[-1].width
        self.stages = nn.ModuleList(stages)
        self.locally = nn.ModuleList(
            LocalBottleneck(channels[level], config.reduction, stage.width)
            for level, stage in zip((2, 1, 0), stages, strict=True)
            if self.use_local
        )
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def restore(self, features: list[Tensor], templates: list[Tensor] | None) -> list[Tensor]:
        inputs = self._scaled(features)
        references: list[Tensor | None] = [None, None, None]
        if templates is not None:
            counts = [level.shape[:2] for level in templates]
            flat = self._scaled([level.flatten(0, 1) for level in templates])
            references = [level.unflatten(0, count) for level, count in zip(flat, counts, strict=True)]
        x = self.started(features[2]) if self.globally is None else self.globally(inputs)
        restored: list[Tensor] = []
        for index, stage in enumerate(self.stages):
            level = 2 - index
            local = self.locally[index](inputs[level]) if self.use_local else None
            x, output = stage(x, local, references[level], features[level].shape[2:])
            restored.insert(0, self._unscaled(output, level))
        return restored

    def _scaled(self, features: list[Tensor]) -> list[Tensor]:
        return [
            ((feature - getattr(self, f"mean{level}")) / getattr(self, f"std{level}")).contiguous(
                memory_format=torch.channels_last
            )
            for level, feature in enumerate(features)
        ]

    def _unscaled(self, output: Tensor, level: int) -> Tensor:
        return output.float() * getattr(self, f"std{level}") + getattr(self, f"mean{level}")
