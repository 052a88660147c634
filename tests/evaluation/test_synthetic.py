"""Planted anomalies as a yardstick: perfect and blind detectors get what they should."""

from __future__ import annotations

import pytest
import torch
from thfr.data.planted import PLANTED
from thfr.errors import InputError
from thfr.evaluation.synthetic import evaluate_synthetic
from torch import Tensor


class Comparing:
    """A detector that knows the good images: the anomaly map is the difference to the nearest of them."""

    size = (64, 64)

    def __init__(self, known: Tensor, sign: float = 1.0) -> None:
        self.known, self.sign = known.float(), sign

    def score_prepared(self, images: Tensor) -> tuple[Tensor, Tensor]:
        differences = (images.float()[:, None] - self.known[None]).abs().mean(2)  # [B,N,S,S]
        nearest = differences.mean((2, 3)).argmin(1)
        maps = self.sign * differences[torch.arange(len(images)), nearest]
        return maps, maps.amax((1, 2))


def good(count: int = 4) -> Tensor:
    noise = torch.rand(count, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    return (torch.nn.functional.interpolate(noise, (64, 64), mode="bilinear") * 255).to(torch.uint8)


def test_a_detector_that_knows_finds_everything_and_its_opposite_nothing() -> None:
    images = good()
    found = evaluate_synthetic(Comparing(images), images)  # type: ignore[arg-type]
    assert found["image_auroc"] == found["logical"] == found["structural"] == 1
    assert set(found["kinds"]) == set(PLANTED)
    assert found["au_pro"] > 0.97  # a feathered edge is half in, half out
    missed = evaluate_synthetic(Comparing(images, -1.0), images)  # type: ignore[arg-type]
    assert missed["image_auroc"] < 0.6
    assert missed["au_pro"] < 0.1


def test_wrong_images_are_named() -> None:
    with pytest.raises(InputError, match=r"images: expected uint8 \[N,3, 64, 64\] with N >= 2"):
        evaluate_synthetic(Comparing(good()), good()[:1])  # type: ignore[arg-type]
    with pytest.raises(InputError, match="images: expected uint8"):
        evaluate_synthetic(Comparing(good()), good().float())  # type: ignore[arg-type]
