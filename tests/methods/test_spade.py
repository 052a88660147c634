"""SPADE against plain searches in float64."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from support.images import clouds, smooth_map
from thfr.backbones import create_backbone
from thfr.methods import FitContext
from thfr.methods.spade import SPADEConfig, SPADEDetector, SPADEModelConfig
from torch import Tensor
from torch.nn import functional as F

SIZE = 64


def fit(out: Path, budget: int = 1 << 30, **model: int) -> tuple[SPADEDetector, dict[str, object]]:
    torch.manual_seed(0)
    config = SPADEConfig(model=SPADEModelConfig(backbone="resnet18", pretrained=False, size=SIZE, **model))
    images = clouds(7, 0)
    context = FitContext(images, torch.arange(7), out, torch.device("cpu"), cache_budget=budget)
    return SPADEDetector.fit(config, create_backbone("resnet18", pretrained=False), context)


def pyramid(levels: list[Tensor], stride: int) -> Tensor:
    """fp64 [B,places,C]."""
    edge = SIZE // stride
    same = [
        F.adaptive_avg_pool2d(level.double(), edge)
        if level.shape[2] > edge
        else F.interpolate(level.double(), edge, mode="bilinear", align_corners=False)
        for level in levels
    ]
    return torch.cat(same, 1).flatten(2).transpose(1, 2)


@pytest.mark.parametrize(
    ("stride", "images", "places"), [(4, 3, 1), (8, 5, 3), (16, 50, 2)], ids=["fine", "coarse", "all"]
)
def test_scores_are_those_of_plain_searches(tmp_path: Path, stride: int, images: int, places: int) -> None:
    detector, _ = fit(tmp_path, stride=stride, image_neighbours=images, place_neighbours=places)
    new = clouds(3, 1)
    maps, scores = detector.score_prepared(new)
    train, query = detector.features(clouds(7, 0)), detector.features(new)
    to_keys = torch.cdist(query[2].double().mean((2, 3)), train[2].double().mean((2, 3)))
    nearest = to_keys.topk(min(images, 7), largest=False)
    torch.testing.assert_close(scores.double(), nearest.values.square().mean(1), rtol=3e-3, atol=1e-6)
    bank, places_of = pyramid(train, stride), pyramid(query, stride)
    for index in range(3):
        found = torch.cdist(places_of[index], bank[nearest.indices[index]].flatten(0, 1))
        distances = found.topk(places, largest=False).values.square().mean(1)
        wanted = smooth_map(distances.view(1, SIZE // stride, -1).float(), SIZE)[0]
        torch.testing.assert_close(maps[index], wanted, rtol=3e-3, atol=1e-5)


def test_a_training_image_is_nothing_new(tmp_path: Path) -> None:
    detector, _ = fit(tmp_path, image_neighbours=1)
    maps, scores = detector.score_prepared(clouds(7, 0)[2:3])
    other_maps, other_scores = detector.score_prepared(clouds(1, 5))
    assert float(maps.max()) < 1e-3 * float(other_maps.max())
    assert float(scores) < 1e-3 * float(other_scores)


def test_a_large_gallery_lies_in_a_file(tmp_path: Path) -> None:
    (mapped, facts), (held, others) = fit(tmp_path, budget=0), fit(tmp_path)
    assert facts == {"gallery": 7, "features_mapped": True}
    assert others["features_mapped"] is False
    assert list(tmp_path.iterdir()) == []  # not even now
    for one, other in zip(mapped.state().values(), held.state().values(), strict=True):
        assert torch.equal(one, other)
    new = clouds(1, 1)
    assert torch.equal(mapped.score_prepared(new)[0], held.score_prepared(new)[0])
