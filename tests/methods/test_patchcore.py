"""PatchCore: patch features, coreset, re-weighting and memory."""

from __future__ import annotations

import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from support.images import clouds, smooth_map
from thfr.backbones import create_backbone
from thfr.methods import FitContext, config_from_yaml
from thfr.methods.patchcore import (
    InMemory,
    PatchCoreConfig,
    PatchCoreDetector,
    PatchCoreModelConfig,
    PatchCoreTrainingConfig,
    bank_size,
    patch_features,
    reweighting,
)
from torch import Tensor
from torch.nn import functional as F

SIZE, IMAGES = 64, 9
PATCHES = IMAGES * (SIZE // 8) ** 2


def fit(
    out: Path, training: dict[str, Any] | None = None, **model: Any
) -> tuple[PatchCoreDetector, dict[str, Any]]:
    torch.manual_seed(0)
    config = PatchCoreConfig(
        model=PatchCoreModelConfig(backbone="resnet18", pretrained=False, size=SIZE, **model),
        training=PatchCoreTrainingConfig(**(training or {})),
    )
    context = FitContext(clouds(IMAGES, 0), torch.arange(IMAGES), out, torch.device("cpu"))
    return PatchCoreDetector.fit(config, create_backbone("resnet18", pretrained=False), context)


def all_patches(detector: PatchCoreDetector, images: Tensor) -> Tensor:  # [N,D]
    model = detector.config.model
    features = patch_features(detector.features(images), model)
    return features.permute(0, 2, 3, 1).flatten(0, 2)


def plain_features(levels: list[Tensor], neighbourhood: int, dimension: int) -> Tensor:
    """Each channel's mean over unfolded neighbourhoods, all levels pooled to the same width, the way that
    repeats channels where there are few.
    """
    parts = []
    for level in levels[1:]:
        patches = F.unfold(level.double(), neighbourhood, padding=neighbourhood // 2)  # [B,C*p*p,H*W]
        means = patches.unflatten(1, (level.shape[1], -1)).mean(2)
        pooled = F.adaptive_avg_pool1d(means.transpose(1, 2), dimension // 2).transpose(1, 2)
        pooled = pooled.unflatten(2, level.shape[2:])
        parts.append(F.interpolate(pooled, levels[1].shape[2:], mode="bilinear", align_corners=False))
    return torch.cat(parts, 1).permute(0, 2, 3, 1).flatten(0, 2)


@pytest.mark.parametrize("channels", [(8, 16), (8, 4), (32, 64)], ids=["equal", "narrow", "wide"])
def test_distances_between_patches(channels: tuple[int, int]) -> None:
    rng = torch.Generator().manual_seed(0)
    levels = [torch.rand(2, c, e, e, generator=rng) for c, e in zip((4, *channels), (16, 8, 4), strict=True)]
    model = PatchCoreModelConfig(dimension=32, level_scale="equal_width")
    found = patch_features(levels, model).permute(0, 2, 3, 1).flatten(0, 2)
    assert found.shape == (128, sum(min(16, c) for c in channels))
    wanted = plain_features(levels, 3, 32)
    between = [torch.cdist(x, x) for x in (found.double(), wanted)]
    torch.testing.assert_close(*between, rtol=1e-5, atol=1e-5)


def test_levels_stay_as_they_are() -> None:
    levels = [torch.rand(1, c, 4, 4) for c in (4, 8, 16)]
    as_they_are, scaled = (
        patch_features(levels, PatchCoreModelConfig(neighbourhood=1, dimension=32, level_scale=scale))
        for scale in ("none", "equal_width")
    )
    torch.testing.assert_close(as_they_are, torch.cat(levels[1:], 1))
    torch.testing.assert_close(scaled[:, :8], levels[1] * 2**0.5)


def test_an_older_run_has_its_levels_scaled() -> None:
    older = {"method": "patchcore", "model": {"size": SIZE}, "weights_digest": "0"}
    assert PatchCoreConfig.from_values(older).model.level_scale == "equal_width"
    older.pop("weights_digest")
    made = PatchCoreConfig.from_values(older)
    assert made.model.level_scale == "none"
    assert config_from_yaml(made.model_copy(update={"weights_digest": "0"}).to_yaml()).model == made.model


def test_one_image_suffices(tmp_path: Path) -> None:
    torch.manual_seed(0)
    config = PatchCoreConfig(
        model=PatchCoreModelConfig(backbone="resnet18", pretrained=False, size=SIZE, bank_ratio=0.001)
    )
    context = FitContext(clouds(1, 0), torch.arange(1), tmp_path, torch.device("cpu"))
    detector, facts = PatchCoreDetector.fit(config, create_backbone("resnet18", pretrained=False), context)
    assert facts["bank"] == 1
    assert detector.score_prepared(clouds(2, 0))[1].isfinite().all()


def test_bank_is_the_coreset_of_the_patches(tmp_path: Path) -> None:
    """k-centre greedy in the full space would choose much the same: no patch may lie far from the bank."""
    detector, facts = fit(tmp_path, bank_ratio=0.1)
    assert facts == {"patches": PATCHES, "candidates": PATCHES, "bank": 58}
    patches, bank = all_patches(detector, clouds(IMAGES, 0)), detector.patches
    assert bank.dtype == torch.float16
    torch.testing.assert_close(
        torch.cdist(bank.float(), patches).min(1).values, torch.zeros(58), atol=0.1, rtol=0
    )
    assert len(bank.unique(dim=0)) == 58
    rng = torch.Generator().manual_seed(0)
    drawn = [patches[torch.randperm(PATCHES, generator=rng)[:58]] for _ in range(20)]
    covered, *by_chance = (torch.cdist(patches, kept).min(1).values.max() for kept in (bank.float(), *drawn))
    assert covered < min(by_chance)


def test_scores_are_those_of_the_formulas(tmp_path: Path) -> None:
    detector, _ = fit(tmp_path, bank_limit=40)
    new = clouds(3, 1)
    maps, scores = detector.score_prepared(new)
    bank = detector.patches.double()
    between = torch.cdist(all_patches(detector, new).double(), bank).view(3, -1, 40)
    distances, nearest = between.min(2)
    wanted = smooth_map(distances.float().view(3, SIZE // 8, -1), SIZE)
    torch.testing.assert_close(maps, wanted, rtol=1e-4, atol=1e-4)
    for image in range(3):
        worst = int(distances[image].argmax())
        around = (bank - bank[nearest[image, worst]]).norm(dim=1).topk(9, largest=False).indices
        exponents = between[image, worst].exp()
        factor = 1 - exponents[nearest[image, worst]] / exponents[around].sum()
        assert float(scores[image]) == pytest.approx(float(factor * distances[image, worst]), rel=1e-4)
    plain, _ = fit(tmp_path, bank_limit=40, support=0)
    torch.testing.assert_close(plain.score_prepared(new)[1], distances.amax(1).float(), rtol=1e-4, atol=0)


def test_reweighting_is_one_for_a_rare_neighbour() -> None:
    bank = torch.zeros(12, 3)
    bank[:10] = torch.randn(10, 3, generator=torch.Generator().manual_seed(0)) * 1e-3
    bank[10], bank[11] = torch.tensor([0.0, 500.0, 0.0]), torch.tensor([0.0, 0.0, 0.0])
    worst = torch.tensor([[0.0, 501.0, 0.0], [3.0, 0.0, 0.0]])
    nearest = torch.cdist(worst, bank).argmin(1)
    distances = torch.cdist(worst, bank).min(1).values
    rare, common = reweighting(worst, nearest, distances, InMemory(bank), 9).tolist()
    assert rare == pytest.approx(1)  # its neighbours are 500 away: exp of that must not overflow
    assert common == pytest.approx(8 / 9, abs=1e-3)
    assert math.isfinite(float(reweighting(worst * 1e4, nearest, distances * 1e4, InMemory(bank), 20)[0]))


def test_limits_of_the_bank(tmp_path: Path) -> None:
    assert bank_size(1000, 1000, PatchCoreModelConfig()) == 100
    assert bank_size(1000, 50, PatchCoreModelConfig()) == 50
    assert bank_size(1000, 1000, PatchCoreModelConfig(bank_limit=7)) == 7
    assert bank_size(3, 3, PatchCoreModelConfig()) == 1
    detector, facts = fit(tmp_path, {"candidates": 100}, bank_ratio=0.5)
    assert facts == {"patches": PATCHES, "candidates": 100, "bank": 100}
    assert len(detector.patches.unique(dim=0)) == 100
    everything, _ = fit(tmp_path, bank_ratio=1.0)
    patches = all_patches(everything, clouds(IMAGES, 0))
    assert torch.equal(everything.patches, patches.half())


_MEASURED = """
import resource, sys
from pathlib import Path
import torch
from thfr.methods import FitContext
from thfr.methods.patchcore import *

class Backbone(torch.nn.Module):
    name, channels = "stand-in", (1, 512, 512)
    def forward(self, images):
        grey = images.mean(1, keepdim=True)
        return [grey[:, :, ::s, ::s] * torch.arange(1, c + 1)[:, None, None]
                for c, s in zip(self.channels, (4, 8, 16))]

torch.set_num_threads(1)
config = PatchCoreConfig(model=PatchCoreModelConfig(size=64, bank_limit=10),
                         training=PatchCoreTrainingConfig(projection=16))
def fit(images):
    shown = torch.randint(0, 256, (images, 3, 64, 64), dtype=torch.uint8)
    context = FitContext(shown, torch.arange(images), Path(sys.argv[1]), torch.device("cpu"))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    facts = PatchCoreDetector.fit(config, Backbone(), context)[1]
    return facts["patches"], resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
fit(64)  # what libraries and batches take
print(*fit(1000))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="ru_maxrss is in other units elsewhere")
def test_memory_does_not_hold_all_patches(tmp_path: Path) -> None:
    """64,000 patches of 1,024 numbers are 131 MB even as fp16; of these only 16 numbers each may be kept."""
    command = [sys.executable, "-c", _MEASURED, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    patches, kilobytes = map(int, done.stdout.split())
    assert patches == 64_000
    assert kilobytes < 60_000
    assert list(tmp_path.iterdir()) == []
