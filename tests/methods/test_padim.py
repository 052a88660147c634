"""PaDiM against numpy's covariances and scipy's Mahalanobis distance."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy.spatial.distance import mahalanobis as plain_distance
from support.images import clouds, smooth_map
from thfr.backbones import create_backbone
from thfr.errors import InputError
from thfr.methods import FitContext
from thfr.methods.padim import PaDiMConfig, PaDiMDetector, PaDiMModelConfig, mahalanobis, whitening
from torch import Tensor

SIZE, IMAGES, DIMENSION = 64, 19, 8


def fit(
    out: Path, stride: int = 8, budget: int = 1 << 30, dimension: int = DIMENSION
) -> tuple[PaDiMDetector, dict[str, Any]]:
    torch.manual_seed(0)
    model = PaDiMModelConfig(
        backbone="resnet18", pretrained=False, size=SIZE, stride=stride, dimension=dimension
    )
    context = FitContext(
        clouds(IMAGES, 0), torch.arange(IMAGES), out, torch.device("cpu"), cache_budget=budget
    )
    extractor = create_backbone("resnet18", pretrained=False)
    return PaDiMDetector.fit(PaDiMConfig(model=model), extractor, context)


def embeddings(detector: PaDiMDetector, images: Tensor) -> np.ndarray:
    """float64 [B,H,W,D], each place by its indices."""
    stride = detector.config.model.stride
    edge = SIZE // stride
    levels = [level.double().numpy() for level in detector.features(images)]
    found = np.empty((len(images), edge, edge, len(detector.channels)))
    for place, channel in enumerate(detector.channels.tolist()):
        level, number = 0, channel
        while number >= levels[level].shape[1]:
            number -= levels[level].shape[1]
            level += 1
        for y in range(edge):
            for x in range(edge):
                own = 4 << level
                if own >= stride:
                    value = levels[level][:, number, y * stride // own, x * stride // own]
                else:
                    n = stride // own
                    value = levels[level][:, number, y * n : y * n + n, x * n : x * n + n].mean((1, 2))
                found[:, y, x, place] = value
    return found


@pytest.mark.parametrize("stride", [4, 16])
def test_distances_are_those_of_the_formula(tmp_path: Path, stride: int) -> None:
    detector, facts = fit(tmp_path, stride)
    edge = SIZE // stride
    assert facts == {"locations": edge * edge, "dimension": DIMENSION, "passes": 1}
    good, new = embeddings(detector, clouds(IMAGES, 0)), embeddings(detector, clouds(2, 1))
    distances = np.empty((2, edge, edge))
    for y, x in np.ndindex(edge, edge):
        covariance = np.cov(good[:, y, x], rowvar=False) + 0.01 * np.eye(DIMENSION)
        inverse = np.linalg.inv(covariance)
        for image in range(2):
            distances[image, y, x] = plain_distance(new[image, y, x], good[:, y, x].mean(0), inverse)
    wanted = smooth_map(torch.from_numpy(distances).float(), SIZE)
    maps, scores = detector.score_prepared(clouds(2, 1))
    torch.testing.assert_close(maps, wanted, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(scores, wanted.amax((1, 2)), rtol=1e-4, atol=1e-4)


def test_little_memory_takes_more_passes(tmp_path: Path) -> None:
    whole, _ = fit(tmp_path)
    parts, facts = fit(tmp_path, budget=25 * 8 * DIMENSION**2)
    assert facts["passes"] == 3  # 64 locations
    for one, other in zip(whole.state().values(), parts.state().values(), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-6, atol=1e-6)


def test_large_means_leave_the_covariance_exact() -> None:
    """Sums of squares would lose it; two fp32 images would, too."""
    rng = np.random.default_rng(0)
    values = rng.normal(1000, 0.1, (40, 5))
    covariance = np.cov(values, rowvar=False) + 0.01 * np.eye(5)
    factor = whitening(torch.from_numpy(np.cov(values, rowvar=False))[None], 0.01)
    np.testing.assert_allclose((factor[0].T @ factor[0]).numpy(), np.linalg.inv(covariance), rtol=1e-9)
    embedded, mean = torch.from_numpy(values[:, None]).transpose(0, 1), torch.from_numpy(values.mean(0))[None]
    found = mahalanobis(embedded, mean, factor)
    wanted = [plain_distance(v, values.mean(0), np.linalg.inv(covariance)) for v in values]
    np.testing.assert_allclose(found[:, 0].numpy(), wanted, rtol=1e-9)


def test_default_dimension() -> None:
    chosen = {name: PaDiMModelConfig(backbone=name).embedding for name in ("resnet18", "wide_resnet50_2")}
    assert chosen == {"resnet18": 100, "wide_resnet50_2": 550}


def test_too_many_channels(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"PaDiM: dimension must be at most 448.*got 449"):
        fit(tmp_path, dimension=449)
