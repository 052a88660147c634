"""What the template method asks, beside the restoration: ``parts: all``.

The restoration knows what may vary, but lets pass what it has learnt to restore; good images themselves, at
the same place or from anywhere, forgive nothing that none of them shows. The map is the sum of both, each
over its median peak of good images and in proportion to 1 / variation^2 of these peaks.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from thfr.backbones import FeatureExtractor
from thfr.errors import InputError
from thfr.methods.common.bank import TemplateBank
from thfr.methods.template.calibration import steadiness
from thfr.methods.template.config import TemplateConfig, TemplateModelConfig, TemplateTrainingConfig
from thfr.methods.template.detector import TemplateDetector
from thfr.methods.thfr.config import THFRConfig

_BANK = "bank."


class References:
    """The template method on THFR's own bank.

    Attributes: ``scale``, fp32 [2]: what the restoration's distances and the template method's map are
    multiplied by in the sum.
    """

    def __init__(self, detector: TemplateDetector, scale: Tensor) -> None:
        self.detector, self.scale = detector, scale.to(detector.device)

    @classmethod
    def made(cls, config: THFRConfig, bank: TemplateBank, device: torch.device) -> References:
        """From the features of good images; ``scale`` is to be set by :meth:`weigh`."""
        detector = TemplateDetector.from_bank(_template_config(config), None, bank, device)
        return cls(detector, torch.ones(2))

    def weigh(
        self,
        restoration: Tensor,  # fp32 [N]: peaks of good images
        template: Tensor,  # fp32 [N]
    ) -> None:
        """Set ``scale``, so that the sum of a good image peaks near 1."""
        say = torch.stack([steadiness(peaks) for peaks in (restoration, template)])
        medians = torch.stack([peaks.median().clamp_min(1e-6) for peaks in (restoration, template)])
        trust = say * medians
        self.scale = (trust / trust.sum() / medians).to(self.scale)

    def of(
        self,
        features: list[Tensor],  # three [B,C_l,H_l,W_l]
        templates: list[Tensor],  # fp32 [B,K,C_l,H_l,W_l]
    ) -> list[Tensor]:  # fp32 [B,h_p,w_p]
        """The maps whose sum is the template method's."""
        detector = self.detector
        return detector.weighted(detector.arrangement(features, templates) + detector.material(features))

    def sum(
        self,
        distances: list[Tensor],  # fp32 [B,H_l,W_l], of the restoration
        beside: list[Tensor],  # fp32 [B,h_p,w_p], see of
    ) -> list[Tensor]:
        """The maps whose sum is the answer."""
        return [part * self.scale[0] for part in distances] + [part * self.scale[1] for part in beside]

    def of_bank(
        self,
        rows: Tensor,  # int64 [N], at most 64
    ) -> Iterator[list[Tensor]]:  # of each fp32 [1,h_p,w_p]
        """The same for rows of the bank, each as if its image were not in it."""
        return map(self.detector.weighted, self.detector.leaving_out(rows))

    def state(self) -> dict[str, Tensor]:
        """All but the bank, for a checkpoint."""
        own = {name: held for name, held in self.detector.state().items() if not name.startswith(_BANK)}
        return {**own, "scale": self.scale}

    @classmethod
    def from_state(
        cls,
        config: THFRConfig,
        extractor: FeatureExtractor,
        bank: TemplateBank,
        state: dict[str, Tensor],
        device: torch.device | str,
    ) -> References:
        """The inverse of :meth:`state`.

        Raises:
            InputError, KeyError: the state does not fit the configuration.
        """
        if state["scale"].shape != (2,):
            raise InputError(f"THFR: scale must be [2], got {list(state['scale'].shape)}")
        whole = state | {f"{_BANK}{name}": held for name, held in bank.state().items()}
        detector = TemplateDetector.from_state(_template_config(config), extractor, whole, device)
        return cls(detector, state["scale"])


def _template_config(config: THFRConfig) -> TemplateConfig:
    """The template method with its defaults, seeing images as THFR does."""
    shared = (TemplateModelConfig.model_fields.keys() & type(config.model).model_fields.keys()) - {"parts"}
    model = TemplateModelConfig(**{name: getattr(config.model, name) for name in shared})
    return TemplateConfig(model=model, training=TemplateTrainingConfig(seed=config.training.seed))
