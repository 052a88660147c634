"""The restoration network: shapes, variants, and what can reach its output."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from thfr.errors import InputError
from thfr.methods.thfr.compensation import Compensation
from thfr.methods.thfr.config import VARIANTS, THFRModelConfig, Variant
from thfr.methods.thfr.light import LightNetwork
from thfr.methods.thfr.making import make_network
from thfr.methods.thfr.network import RestorationNetwork
from torch import Tensor
from torch.nn import functional as F

CHANNELS = (8, 12, 16)


def features(batch: int = 2, seed: int = 0, size: int = 64) -> list[Tensor]:
    rng = torch.Generator().manual_seed(seed)
    return [
        torch.rand(batch, count, size // stride, size // stride, generator=rng)
        for count, stride in zip(CHANNELS, (4, 8, 16), strict=True)
    ]


DECODERS = ("full", "light")


def network(variant: Variant, **options: Any) -> RestorationNetwork:
    torch.manual_seed(0)
    config = {"variant": variant, "backbone": "resnet18", "bottleneck_channels": 16, "size": 64, **options}
    net = make_network(THFRModelConfig.from_values(config), CHANNELS)
    for stage in net.stages:
        torch.nn.init.normal_(stage.head.weight, std=0.2)  # which in a light one begin as zeros
    return net


def test_a_light_network_begins_with_the_template() -> None:
    config = {"backbone": "resnet18", "bottleneck_channels": 16, "size": 64, "decoder": "light"}
    net = make_network(THFRModelConfig.from_values(config), CHANNELS)
    shown = [level[:, :1, :, :1, :1].expand_as(level) for level in templates()]
    for restored, level in zip(net(features(), shown), shown, strict=True):
        torch.testing.assert_close(restored, level[:, 0], rtol=1e-4, atol=1e-5)


def templates(seed: int = 1, count: int = 1, batch: int = 2, size: int = 64) -> list[Tensor]:
    """[B,K,C_l,H_l,W_l]"""
    return [level.unflatten(0, (batch, count)) for level in features(batch * count, seed, size)]


def restore(net: RestorationNetwork, given: list[Tensor], templates: list[Tensor]) -> list[Tensor]:
    return net(given, templates if net.config.uses_templates else None)


@pytest.mark.parametrize("decoder", DECODERS)
@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("size", [64, 96])
def test_restores_the_shapes_it_was_given(variant: Variant, size: int, decoder: str) -> None:
    given = features(size=size)
    restored = restore(network(variant, decoder=decoder), given, templates(size=size))
    assert [level.shape for level in restored] == [level.shape for level in given]
    assert all(level.dtype == torch.float32 and level.isfinite().all() for level in restored)


@pytest.mark.parametrize("decoder", DECODERS)
@pytest.mark.parametrize("variant", VARIANTS)
def test_every_parameter_learns(variant: Variant, decoder: str) -> None:
    net = network(variant, decoder=decoder)
    sum(level.square().sum() for level in restore(net, features(), templates())).backward()
    for name, parameter in net.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().sum() > 0, name


@pytest.mark.parametrize("decoder", DECODERS)
@pytest.mark.parametrize("variant", VARIANTS)
def test_templates_are_asked_for_exactly_where_they_are_used(variant: Variant, decoder: str) -> None:
    net = network(variant, decoder=decoder)
    with pytest.raises(ValueError, match=variant):
        net(features(), None if net.config.uses_templates else templates())


def closed_bottlenecks(net: RestorationNetwork) -> RestorationNetwork:
    """The network with nothing passing its bottlenecks."""
    with torch.no_grad():
        for local in net.locally:
            local.body[-1].weight.zero_()
        if net.globally is not None:
            for block in net.globally.blocks:
                for part in (block.body, block.shortcut):  # each ends with a norm or a convolution
                    last = [module for module in part.modules() if hasattr(module, "weight")][-1:]
                    for module in last:
                        module.weight.zero_()
                        module.bias.zero_()
    return net


@pytest.mark.parametrize("decoder", DECODERS)
@pytest.mark.parametrize("variant", VARIANTS)
def test_no_path_from_input_to_output_but_the_bottlenecks(variant: Variant, decoder: str) -> None:
    net = closed_bottlenecks(network(variant, decoder=decoder))
    one, other = (restore(net, features(seed=seed), templates()) for seed in (2, 3))
    assert all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


@pytest.mark.parametrize("variant", ["lbn", "gl"])
@pytest.mark.parametrize("decoder", DECODERS)
def test_local_bottlenecks_carry_only_few_numbers_a_place(variant: Variant, decoder: str) -> None:
    net = network(variant, decoder=decoder)
    assert narrowest(net) == [2, 2, 2]  # c/16, at least 2
    assert narrowest(network(variant, decoder=decoder, local_reduction=4)) == [4, 3, 2]


@pytest.mark.parametrize(("decoder", "kept"), [("full", 16), ("light", 32)])
def test_how_many_numbers_follows_the_decoder(decoder: str, kept: int) -> None:
    config = THFRModelConfig.from_values({"decoder": decoder})
    assert config.reduction == kept
    assert config.model_copy(update={"local_reduction": 8}).reduction == 8


def narrowest(net: RestorationNetwork) -> list[int]:
    first = [local.reduce if isinstance(net, LightNetwork) else local.body[0] for local in net.locally]
    return [convolution.out_channels for convolution in first]


@pytest.mark.parametrize("decoder", DECODERS)
def test_template_reaches_all_three_levels(decoder: str) -> None:
    net = network("thfr", decoder=decoder)
    given = features()
    one, other = net(given, templates(seed=1)), net(given, templates(seed=2))
    assert all((a - b).abs().max() > 1e-4 for a, b in zip(one, other, strict=True))


@pytest.mark.parametrize("decoder", DECODERS)
def test_one_image_does_not_influence_another(decoder: str) -> None:
    net = network("thfr", decoder=decoder).eval()
    given, found = features(3), templates(batch=3, count=2)
    together = net(given, found)
    alone = net([level[1:2] for level in given], [level[1:2] for level in found])
    for a, b in zip(together, alone, strict=True):
        torch.testing.assert_close(a[1:2], b, rtol=1e-4, atol=1e-5)


def test_attention_prefers_the_same_place() -> None:
    compensation = Compensation(4, 4, heads=1, temperature=30.0, prior_width=2.0, pool=1)
    x = torch.zeros(1, 1, 4, 4)
    ((rows, near, prior),) = compensation.bands.of((4, 4), 1, (4, 4), 1, 1, x.device)
    assert (rows, near) == (slice(0, 16), slice(0, 16))
    assert torch.equal(prior[0].argmax(1), torch.arange(16))
    assert prior.max() == 0
    assert prior[0, 0, 1] == pytest.approx(-1 / (2 * 2.0**2))


@pytest.mark.parametrize("pool", [1, 4])
@pytest.mark.parametrize("width", [0.1, 1.0, 30.0])
def test_bands_of_rows_see_what_is_in_reach(width: float, pool: int) -> None:
    """As attention over all keys, whose logits are cut where they lie farther than five deviations."""
    torch.manual_seed(0)
    heads, temperature, count, edges = 2, 3.0, 2, (41, 18)
    compensation = Compensation(8, 6, heads, temperature, width, pool)
    x, templates = torch.randn(2, 8, *edges), torch.randn(2, count, 6, *edges)
    keys = tuple(edge // pool for edge in edges)
    found = compensation.bands.of(edges, 0.5, keys, pool / 2, count, x.device)
    assert len(found) == (1 if width > 9 else 3)
    found = compensation(x, templates, 8)[1]
    pooled = F.avg_pool2d(templates.flatten(0, 1), pool)
    queries, keys = (
        F.normalize(level.unflatten(1, (heads, -1)), dim=2)
        for level in (compensation.query(x), compensation.key(pooled))
    )
    values = F.pad(pooled, (0, 0, 0, 0, 0, 2)).unflatten(1, (heads, -1))
    at, there = (
        torch.cartesian_prod(*((torch.arange(edge) + 0.5) * cell for edge in level.shape[2:]))
        for level, cell in ((x, 0.5), (pooled, 0.5 * pool))
    )
    distances = torch.cdist(at, there)
    prior = -((distances / width) ** 2) / 2
    prior[distances > max(5 * width, pool)] = -torch.inf
    wanted = []
    for image in range(2):
        own = slice(count * image, count * (image + 1))
        key, value = (level[own].flatten(3).permute(1, 2, 0, 3) for level in (keys, values))  # [h,c,K,N]
        logits = temperature * torch.einsum("hcq,hckn->hqkn", queries[image].flatten(2), key)
        weights = (logits + prior[None, :, None]).flatten(2).softmax(2)
        wanted.append(torch.einsum("hqn,hcn->hcq", weights, value.flatten(2)).flatten(0, 1)[:6])
    torch.testing.assert_close(found.flatten(2), torch.stack(wanted), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("decoder", DECODERS)
def test_statistics_scale_input_and_output(decoder: str) -> None:
    net = network("gl", decoder=decoder).eval()
    given = features()
    before = net(given)
    net.set_statistics([torch.full((c,), 2.0) for c in CHANNELS], [torch.full((c,), 3.0) for c in CHANNELS])
    after = net([level * 3 + 2 for level in given])
    for a, b in zip(before, after, strict=True):
        torch.testing.assert_close(a * 3 + 2, b, rtol=1e-4, atol=1e-4)


OPTIONS: dict[str, dict[str, Any]] = {
    "a light decoder": {"decoder": "light"},
    "a light decoder without residual": {"decoder": "light", "template_residual": False},
    "a light decoder, 4 cells a side": {"decoder": "light", "global_stride": 64, "size": 128},
    "a light decoder, two levels": {"decoder": "light", "compensation_levels": (1, 3)},
    "a deeper global bottleneck": {"global_blocks": 5},
    "4 cells a side": {"global_stride": 64, "size": 128},
    "one vector": {"global_stride": 128, "size": 128},
    "heads": {"attention_heads": 4},
    "all keys": {"attention_pool": 1},
    "few keys": {"attention_pool": 4},
    "one level": {"compensation_levels": (2,)},
}


@pytest.mark.parametrize("name", OPTIONS)
def test_options_keep_shapes_and_learn(name: str) -> None:
    options = OPTIONS[name]
    size = options.get("size", 64)
    net = network("thfr", **options)
    given = features(size=size)
    restored = net(given, templates(size=size, count=3))
    assert [level.shape for level in restored] == [level.shape for level in given]
    sum(level.square().sum() for level in restored).backward()
    assert all(parameter.grad is not None for parameter in net.parameters())


def test_one_vector_forgets_where_things_are() -> None:
    """At one cell a side, what passes the global bottleneck cannot tell a corner from another."""
    net = network("gbn", global_stride=128, size=128)
    assert net.globally is not None
    halves = [module for module in net.globally.blocks if isinstance(module, torch.nn.ConvTranspose2d)]
    squeezed: list[torch.Size] = []
    halves[0].register_forward_pre_hook(lambda module, given: squeezed.append(given[0].shape))
    net(features(size=128))
    assert squeezed[0][2:] == (1, 1)


@pytest.mark.parametrize("decoder", DECODERS)
@pytest.mark.parametrize("level", [1, 2, 3])
def test_compensation_at_one_level_alone(level: int, decoder: str) -> None:
    net = network("thfr", compensation_levels=(level,), decoder=decoder)
    assert [stage.compensation is not None for stage in net.stages] == [level == n for n in (3, 2, 1)]
    one, other = (net(features(), templates(seed=seed)) for seed in (1, 2))
    # the decoder runs from level 3 to level 1: what comes before the compensation does not see the template
    seen = [bool((a - b).abs().max() > 0) for a, b in zip(one, other, strict=True)]
    assert seen == [n <= level for n in (1, 2, 3)]


@pytest.mark.parametrize("decoder", DECODERS)
def test_no_level_is_no_compensation(decoder: str) -> None:
    net = network("thfr", decoder=decoder, compensation_levels=())
    assert not net.config.uses_templates
    assert net(features())[0].shape == features()[0].shape


@pytest.mark.parametrize("decoder", DECODERS)
def test_the_nearer_of_two_equal_templates_makes_no_difference(decoder: str) -> None:
    """Softmax over twice the same keys is softmax over them once."""
    net = network("thfr", decoder=decoder).eval()
    once = templates()
    twice = [level.repeat(1, 2, 1, 1, 1) for level in once]
    for a, b in zip(net(features(), once), net(features(), twice), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"compensation_levels": (1, 1)}, "each level once"),
        ({"compensation_levels": (4,)}, "compensation_levels"),
        ({"global_stride": 128, "size": 192}, "divisor of size, 192, got 128"),
        (
            {"attention_heads": 5, "decoder": "full"},
            "attention_heads: expected a divisor of the width, 64",
        ),
        (
            {"attention_heads": 2, "decoder": "light"},
            "attention_heads: expected 1, since decoder is light",
        ),
        (
            {"attention_pool": 1, "decoder": "light"},
            "attention_pool: expected 2, since decoder is light",
        ),
    ],
)
def test_wrong_options_are_named(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        network("thfr", **options)
