"""Pictures of features, made by a trained visualization network, and how far they are from the images."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from thfr.methods import Detector
from thfr.methods.common.restoring import RestoringDetector
from thfr.methods.common.tiles import blend_weights, each_place
from thfr.visualization.network import VisualizationNetwork


@dataclass(frozen=True)
class Visualizer:
    """A trained visualization network. ``metadata``: what ``visualization.json`` holds."""

    network: VisualizationNetwork
    device: torch.device
    metadata: Mapping[str, Any]

    @torch.inference_mode()
    def reconstructed(
        self,
        features: list[Tensor],  # three [B,C_l,S/s_l,S/s_l], extracted or restored
    ) -> Tensor:  # fp32 [B,3,H,W], RGB in 0..1
        """The images that have these features, as far as the network knows."""
        return self.network([level.to(self.device).float() for level in features]).clamp(0, 1)

    def note(self) -> str:
        """What the network is and what it has seen, for captions."""
        test = (
            " and the test images (good and anomalous)" if self.metadata["config"]["test_images"] else " only"
        )
        held_out = self.metadata["error"]["held_out"]
        return (
            "features drawn by a visualization network, which was trained on the training images"
            f"{test}, is for pictures only and takes no part in scores "
            f"(PSNR {held_out['psnr']:.1f} dB on {held_out['images']} held-out images)."
        )

    def drawn(
        self,
        detector: Detector,
        images: Tensor,  # uint8 [B,3,H,W], prepared
        *,
        restored: bool = False,
    ) -> Tensor:  # fp32 [B,3,H,W]
        """:meth:`reconstructed` of the images' features, or of what a restoring detector makes of these;
        the pictures of tiles are blended as their maps are.
        """
        model = detector.config.model
        blended = torch.zeros(images.shape, device=self.device)
        for place, (tiles, rows, columns) in enumerate(each_place(images, model)):
            features = detector.features(tiles)
            if restored:
                assert isinstance(detector, RestoringDetector)  # checked before anything is drawn
                features = detector.restorations(features)
            weights = blend_weights(model, self.device)[place]
            blended[:, :, rows, columns] += self.reconstructed(features) * weights
        return blended

    def pictures(self, detector: Detector, images: Tensor, *, restored: bool = False) -> list[np.ndarray]:
        """:meth:`drawn` as uint8 RGB, one array [H,W,3] an image."""
        pixels = (self.drawn(detector, images, restored=restored) * 255).round().to(torch.uint8)
        return list(pixels.permute(0, 2, 3, 1).cpu().numpy())


class ErrorSum:
    """Collects the reconstruction errors of images batch by batch."""

    def __init__(self) -> None:
        self._errors: list[float] = []

    def add(
        self,
        images: Tensor,  # uint8 [B,3,H,W]
        pictures: Tensor,  # float [B,3,H,W], 0..1
    ) -> None:
        """Take in a batch of images and their reconstructions."""
        difference = images.double() / 255 - pictures.cpu().double()
        self._errors += difference.square().mean((1, 2, 3)).tolist()

    def as_dict(self) -> dict[str, float | int]:
        """``images``, ``mse`` (of RGB in 0..1, mean over images), ``psnr`` (dB, mean over images)."""
        count = len(self._errors)
        psnr = sum(-10 * math.log10(max(error, 1e-10)) for error in self._errors) / count
        return {"images": count, "mse": sum(self._errors) / count, "psnr": psnr}
