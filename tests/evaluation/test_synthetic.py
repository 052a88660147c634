"""Planted anomalies as a yardstick: perfect and blind detectors get what they should."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from thfr.data.planted import PLANTED
from thfr.errors import InputError
from thfr.evaluation.synthetic import evaluate_synthetic
from thfr.io import ReadOptions, Region
from thfr.runs.inputs import RunInputs
from torch import Tensor


class Comparing:
    """A detector that knows the good images: the anomaly map is the difference to the nearest of them."""

    size = (64, 64)
    inputs = RunInputs()

    def __init__(self, known: Tensor, sign: float = 1.0) -> None:
        self.known, self.sign = known.float(), sign

    def score_prepared(self, images: Tensor, sizes: Any = None) -> tuple[Tensor, Tensor]:
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


class Cautious(Comparing):
    """It sees the region only; outside of it its map is what must not count."""

    region = np.zeros((64, 64), dtype=bool)
    region[10:50, 4:30] = True
    inputs = RunInputs(ReadOptions(region=Region.of_mask(region)))

    def score_prepared(self, images: Tensor, sizes: Any = None) -> tuple[Tensor, Tensor]:
        maps, _ = super().score_prepared(images)
        inside = torch.from_numpy(self.region)
        return torch.where(inside, maps, 1e6), maps.masked_fill(~inside, 0).amax((1, 2))


def test_a_region_of_interest_holds_all_anomalies_and_all_that_counts() -> None:
    images = good()
    found = evaluate_synthetic(Cautious(images), images)  # type: ignore[arg-type]
    assert found["image_auroc"] == 1
    assert found["au_pro"] > 0.97


def test_bars_of_a_letterbox_do_not_count() -> None:
    class Boxed(Comparing):
        inputs = RunInputs(ReadOptions(fit="letterbox"))

        def score_prepared(self, images: Tensor, sizes: Any = None) -> tuple[Tensor, Tensor]:
            assert all(size == (32, 64) for size in sizes)
            maps, _ = super().score_prepared(images)
            assert not maps[:, :16].any()  # no anomaly lies there
            assert not maps[:, 48:].any()
            maps[:, :16] = 1e6
            return maps, maps[:, 16:48].amax((1, 2))

    images = good()
    found = evaluate_synthetic(Boxed(images), images, [(32, 64)] * len(images))  # type: ignore[arg-type]
    assert found["image_auroc"] == 1
    assert found["au_pro"] > 0.97


def test_wrong_images_are_named() -> None:
    with pytest.raises(InputError, match=r"images: expected uint8 \[N,3, 64, 64\] with N >= 2"):
        evaluate_synthetic(Comparing(good()), good()[:1])  # type: ignore[arg-type]
    with pytest.raises(InputError, match="images: expected uint8"):
        evaluate_synthetic(Comparing(good()), good().float())  # type: ignore[arg-type]
