"""One vector a location, of several levels: what the memory methods compare."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from support.images import products, write_images
from support.methods import run
from thfr.methods.common.patches import averaged, averaged_grids, concatenated, location_vectors
from thfr.methods.registry import config_from_values


@pytest.mark.parametrize(
    ("method", "backbone", "model"),
    [
        ("spade", "resnet18", {}),
        ("padim", "resnet18", {"stride": 16, "dimension": 40}),
        ("patchcore", "resnet18", {}),
        ("patchcore", "wide_resnet50_2", {}),
    ],
)
def test_memories_of_other_backbones(
    method: str, backbone: str, model: dict[str, Any], tmp_path: Path
) -> None:
    model = {"backbone": backbone, "pretrained": False, "size": 64, **model}
    paths = write_images(tmp_path / "good", products(3, 0))
    detector = run(config_from_values({"method": method, "model": model}), paths, tmp_path / "run")
    maps, scores = detector.score_prepared(products(2, 5))
    assert maps.isfinite().all()
    assert scores.isfinite().all()


def test_levels_at_one_stride() -> None:
    rng = torch.Generator().manual_seed(0)
    levels = [torch.rand(2, c, e, e, generator=rng) for c, e in ((3, 16), (4, 8), (5, 4))]
    coarse = averaged(levels, (4, 8, 16), 8)
    wanted = levels[0].numpy().reshape(2, 3, 8, 2, 8, 2).mean((3, 5))
    np.testing.assert_allclose(coarse[0].numpy(), wanted, rtol=1e-6)
    assert coarse[1] is levels[1]
    assert coarse[2] is levels[2]
    assert averaged(levels, (14, 14, 14), 16)[0].equal(levels[0])
    assert averaged_grids([(16, 24), (8, 12), (4, 6)], (4, 8, 16), 8) == [(8, 12), (8, 12), (4, 6)]
    assert averaged_grids([(37, 18)] * 3, (14, 14, 14), 4) == [(37, 18)] * 3
    repeated = concatenated(coarse, "nearest")
    assert repeated.shape == (2, 12, 8, 8)
    assert torch.equal(repeated[:, 7:], levels[2].repeat_interleave(2, 2).repeat_interleave(2, 3))
    flat = location_vectors(repeated)
    assert torch.equal(flat[64 + 3 * 8 + 5], repeated[1, :, 3, 5])
