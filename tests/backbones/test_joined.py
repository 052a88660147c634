"""Backbones joined by +: sizes, levels, weights, fixed sizes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from thfr.backbones import FeatureExtractor, backbone_spec, create_backbone
from thfr.errors import InputError
from torch.nn import functional as F

NAME = "tf_efficientnet_lite0+test_vit"  # its transformer: patches of 16, 160 x 160 by default


@pytest.fixture(scope="module")
def joined() -> FeatureExtractor:
    return create_backbone(NAME, pretrained=False)


@pytest.mark.parametrize(("size", "other"), [((160, 160), (160, 160)), ((256, 128), (224, 112))])
def test_each_member_sees_the_image_at_its_own_size(
    joined: FeatureExtractor, size: tuple[int, int], other: tuple[int, int]
) -> None:
    images = torch.rand(1, 3, *size)
    members: Any = joined.body.members
    seen = images if size == other else F.interpolate(images, other, mode="bilinear", antialias=True)
    wanted = [*members[0](images), *members[1](seen)]
    for found in (joined(images), joined.fixed(size)(images)):
        for level, expected in zip(found, wanted, strict=True):
            torch.testing.assert_close(level, expected)
    assert [tuple(level.shape[2:]) for level in wanted] == joined.grids(size)
    assert [level.shape[1] for level in wanted] == list(joined.channels)
    assert joined.strides == (4, 8, 16, 16, 16, 16)


def test_files_are_joined_as_names_are(joined: FeatureExtractor, tmp_path: Path) -> None:
    members: Any = joined.body.members
    files = [tmp_path / "pyramid.safetensors", tmp_path / "vit.safetensors"]
    save_file(members[0].body.state_dict(), files[0])
    save_file(members[1].body.model.state_dict(), files[1])
    found = create_backbone("resnet18+test_vit", f"+{files[1]}", pretrained=False).body
    torch.testing.assert_close(found.members[1].state_dict(), members[1].state_dict())  # type: ignore[union-attr,index]
    with pytest.raises(InputError, match=r"weights: expected FILE\+FILE for"):
        create_backbone(NAME, files[1])


def test_refused() -> None:
    for name, reason in (("resnet18+resnet18", "each name once"), ("resnet18+", "expected one of")):
        with pytest.raises(InputError, match=reason):
            backbone_spec(name)
    with pytest.raises(InputError, match="only a transformer has blocks"):
        backbone_spec(NAME, (0, 1, 2))
