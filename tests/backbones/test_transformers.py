"""Vision transformers as backbones: levels, sizes, names in files, position embeddings."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from thfr.backbones import FeatureExtractor, backbone_spec, create_backbone
from thfr.config import ModelConfig
from thfr.errors import InputError
from torch import Tensor

TINY = "test_vit"  # timm's smallest: 64 channels, 6 blocks, patches of 16 pixels, 10 x 10 of them


@pytest.fixture(scope="module")
def tiny() -> FeatureExtractor:
    return create_backbone(TINY, pretrained=False, depths=(0, 2, 4))


def test_levels_are_the_patches_after_three_blocks(tiny: FeatureExtractor) -> None:
    images = torch.rand(2, 3, 64, 96)
    levels = tiny(images)
    grids = tiny.grids((64, 96))
    assert grids == [(4, 6)] * 3
    assert [tuple(level.shape) for level in levels] == [(2, 64, *grid) for grid in grids]
    assert tiny.strides == (16, 16, 16)
    assert not any(parameter.requires_grad for parameter in tiny.parameters())
    model: Any = tiny.body.model
    tokens = model.norm_pre(model.patch_drop(model._pos_embed(model.patch_embed(tiny.normalise(images)))))
    wanted = []
    for number, block in enumerate(model.blocks):
        tokens = block(tokens)
        if number in (0, 2, 4):  # no class token, not normalised
            wanted.append(tokens[:, 1:].transpose(1, 2).unflatten(2, (4, 6)))
    for level, expected in zip(levels, wanted, strict=True):
        torch.testing.assert_close(level, expected)


def test_register_tokens_are_no_patches() -> None:
    extractor = create_backbone("vit_small_patch14_reg4_dinov2", pretrained=False, depths=(0, 1, 2))
    assert extractor.body.model.num_prefix_tokens == 5
    assert [tuple(level.shape) for level in extractor(torch.rand(1, 3, 28, 42))] == [(1, 384, 2, 3)] * 3


@pytest.mark.parametrize("size", [(64, 64), (160, 160), (48, 80)])
def test_an_extractor_of_one_size_says_the_same(tiny: FeatureExtractor, size: tuple[int, int]) -> None:
    images = torch.rand(1, 3, *size)
    fixed = tiny.fixed(size)
    for one, other in zip(tiny(images), fixed(images), strict=True):
        torch.testing.assert_close(one, other)
    assert fixed.body.model.pos_embed.shape[1] == size[0] // 16 * (size[1] // 16) + 1
    assert tiny.body.model.pos_embed.shape[1] == 101  # the original stays as it is


def checkpoint(extractor: FeatureExtractor) -> dict[str, Tensor]:
    """Its weights, with parts that an extractor does not have."""
    more = ("norm.weight", "head.weight", "blocks.5.mlp.fc1.weight", "mask_token")
    return {**extractor.body.model.state_dict(), **{name: torch.ones(2) for name in more}}


def test_names_of_timm_and_of_the_authors(tiny: FeatureExtractor, tmp_path: Path) -> None:
    save_file(checkpoint(tiny), tmp_path / "dinov2.safetensors")  # whose mask_token timm has not
    assert create_backbone(TINY, tmp_path / "dinov2.safetensors", depths=(0, 2, 4)).weights_digest == (
        tiny.weights_digest
    )
    source = create_backbone("vit_small_patch14_reg4_dinov2", pretrained=False, depths=(0, 1, 2))
    state = source.body.model.state_dict()
    theirs = {name: tensor for name, tensor in state.items() if name not in ("reg_token", "pos_embed")}
    theirs |= {"register_tokens": state["reg_token"], "mask_token": torch.zeros(1, 384)}
    theirs |= {"pos_embed": torch.cat([torch.ones(1, 1, 384), state["pos_embed"]], 1)}
    theirs["cls_token"] = state["cls_token"] - 1  # they add the embedding of its position, timm has
    save_file(theirs, tmp_path / "registers.safetensors")
    loaded = create_backbone(
        "vit_small_patch14_reg4_dinov2", tmp_path / "registers.safetensors", depths=(0, 1, 2)
    )
    images = torch.rand(1, 3, 28, 28)
    torch.testing.assert_close(loaded(images)[2], source(images)[2])


def test_an_embedding_of_another_size_is_resampled(tiny: FeatureExtractor, tmp_path: Path) -> None:
    save_file(checkpoint(tiny.fixed((96, 96))), tmp_path / "small.safetensors")  # 6 x 6 places
    loaded = create_backbone(TINY, tmp_path / "small.safetensors", depths=(0, 2, 4))
    assert loaded.body.model.pos_embed.shape[1] == 101


def test_what_does_not_belong_is_named(tiny: FeatureExtractor, tmp_path: Path) -> None:
    path = tmp_path / "weights.safetensors"
    state = checkpoint(tiny)
    save_file({**state, "blocks.4.extra": torch.ones(1)}, path)
    with pytest.raises(InputError, match=r"unexpected 1 entries: blocks\.4\.extra"):
        create_backbone(TINY, path, depths=(0, 2, 4))
    save_file({name: tensor for name, tensor in state.items() if name != "blocks.4.norm1.weight"}, path)
    with pytest.raises(InputError, match=r"lacks 1 entries: blocks\.4\.norm1\.weight"):
        create_backbone(TINY, path, depths=(0, 2, 4))


def test_sizes_are_multiples_of_the_patch() -> None:
    assert ModelConfig(backbone="vit_small_patch14_dinov2").size == (252, 252)
    assert ModelConfig(backbone="vit_small_patch14_dinov2", size=(518, 252)).grids == [(37, 18)] * 3
    assert ModelConfig(backbone="vit_small_patch16_dinov3").size == (256, 256)
    with pytest.raises(ValueError, match=r"a multiple of 14 for .*, the nearest being 252 or 266, got 256"):
        ModelConfig(backbone="vit_small_patch14_dinov2", size=256)


@pytest.mark.parametrize("depths", [(2, 1, 3), (1, 2, 6), (1, 1, 2), (-1, 1, 2)])
def test_depths_are_three_ascending_blocks(depths: tuple[int, int, int]) -> None:
    with pytest.raises(ValueError, match=r"three ascending blocks of test_vit, 0 to 5"):
        ModelConfig(backbone=TINY, depths=depths)


def test_only_transformers_have_depths() -> None:
    with pytest.raises(InputError, match="only a transformer has blocks to choose, resnet18 is none"):
        create_backbone("resnet18", pretrained=False, depths=(1, 2, 3))
    assert backbone_spec("vit_large_patch14_dinov2").levels == (5, 11, 17)


@pytest.mark.shared
def test_shared_dinov2_loads(shared: Path) -> None:
    path = shared / "weights" / "dinov2_vits14_fp16.safetensors"
    extractor = create_backbone("vit_small_patch14_dinov2", path)
    assert extractor.channels == (384, 384, 384)
    levels = extractor(torch.rand(1, 3, 70, 98))
    assert [tuple(level.shape[2:]) for level in levels] == [(5, 7)] * 3
    assert all(level.dtype == torch.float32 and bool(level.isfinite().all()) for level in levels)
