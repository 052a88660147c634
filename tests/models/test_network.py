"""The restoration network: shapes, variants, and what can reach its output."""

from __future__ import annotations

import pytest
import torch
from thfr.config import VARIANTS, ModelConfig, Variant
from thfr.models import THFRNetwork
from torch import Tensor

CHANNELS = (8, 12, 16)


def features(batch: int = 2, seed: int = 0, size: int = 64) -> list[Tensor]:
    rng = torch.Generator().manual_seed(seed)
    return [
        torch.rand(batch, count, size // stride, size // stride, generator=rng)
        for count, stride in zip(CHANNELS, (4, 8, 16), strict=True)
    ]


def network(variant: Variant) -> THFRNetwork:
    torch.manual_seed(0)
    return THFRNetwork(ModelConfig(variant=variant, backbone="resnet18", bottleneck_channels=16), CHANNELS)


def restore(net: THFRNetwork, given: list[Tensor], templates: list[Tensor]) -> list[Tensor]:
    return net(given, templates if net.config.uses_templates else None)


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("size", [64, 96])
def test_restores_the_shapes_it_was_given(variant: Variant, size: int) -> None:
    given = features(size=size)
    restored = restore(network(variant), given, features(seed=1, size=size))
    assert [level.shape for level in restored] == [level.shape for level in given]
    assert all(level.dtype == torch.float32 and level.isfinite().all() for level in restored)


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_parameter_learns(variant: Variant) -> None:
    net = network(variant)
    sum(level.square().sum() for level in restore(net, features(), features(seed=1))).backward()
    for name, parameter in net.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().sum() > 0, name


@pytest.mark.parametrize("variant", VARIANTS)
def test_templates_are_asked_for_exactly_where_they_are_used(variant: Variant) -> None:
    net = network(variant)
    with pytest.raises(ValueError, match=variant):
        net(features(), None if net.config.uses_templates else features(seed=1))


def closed_bottlenecks(net: THFRNetwork) -> THFRNetwork:
    """The network with nothing passing its bottlenecks."""
    with torch.no_grad():
        for local in net.locally:
            local.body[-1].weight.zero_()
        if net.globally is not None:
            for block in net.globally.blocks:
                for module in (
                    block.body[-1],
                    *([block.shortcut[-1]] if len(list(block.shortcut.children())) else []),
                ):
                    module.weight.zero_()
                    module.bias.zero_()
    return net


@pytest.mark.parametrize("variant", VARIANTS)
def test_no_path_from_input_to_output_but_the_bottlenecks(variant: Variant) -> None:
    net = closed_bottlenecks(network(variant))
    templates = features(seed=1)
    one, other = restore(net, features(seed=2), templates), restore(net, features(seed=3), templates)
    assert all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


@pytest.mark.parametrize("variant", ["lbn", "gl"])
def test_local_bottlenecks_carry_only_few_numbers_a_place(variant: Variant) -> None:
    net = network(variant)
    assert [local.body[0].out_channels for local in net.locally] == [2, 2, 2]  # c/16, at least 2
    width = ModelConfig(variant=variant, backbone="resnet18", bottleneck_channels=16, local_reduction=4)
    assert [local.body[0].out_channels for local in THFRNetwork(width, CHANNELS).locally] == [4, 3, 2]


def test_template_reaches_all_three_levels() -> None:
    net = network("thfr")
    given = features()
    one, other = net(given, features(seed=1)), net(given, features(seed=2))
    assert all((a - b).abs().max() > 1e-4 for a, b in zip(one, other, strict=True))


def test_one_image_does_not_influence_another() -> None:
    net = network("thfr").eval()
    given, templates = features(3), features(3, seed=1)
    together = net(given, templates)
    alone = net([level[1:2] for level in given], [level[1:2] for level in templates])
    for a, b in zip(together, alone, strict=True):
        torch.testing.assert_close(a[1:2], b, rtol=1e-4, atol=1e-5)


def test_attention_prefers_the_same_place() -> None:
    net = network("thfr")
    stage = net.stages[0]
    prior = stage.compensation._prior(torch.zeros(1, 1, 4, 4), torch.zeros(1, 1, 4, 4), 16)[0, 0]
    assert torch.equal(prior.argmax(1), torch.arange(16))
    assert prior.max() == 0
    assert prior[0, 1] == pytest.approx(-1 / (2 * 3.0**2))


def test_statistics_scale_input_and_output() -> None:
    net = network("gl").eval()
    given = features()
    before = net(given)
    net.set_statistics([torch.full((c,), 2.0) for c in CHANNELS], [torch.full((c,), 3.0) for c in CHANNELS])
    after = net([level * 3 + 2 for level in given])
    for a, b in zip(before, after, strict=True):
        torch.testing.assert_close(a * 3 + 2, b, rtol=1e-4, atol=1e-4)
