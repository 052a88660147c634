"""CFLOW: the flow against autograd and a plain float64 oracle, encodings, likelihoods, the map."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from thfr.backbones import create_backbone
from thfr.errors import InputError
from thfr.methods.cflow import (
    CFLOWConfig,
    CFLOWDetector,
    CFLOWModelConfig,
    CFLOWNetwork,
    CFLOWTrainingConfig,
    ConditionalFlow,
    positional_encoding,
    warm_up_and_cosine,
)

CHANNELS, CONDITION = 6, 8


@pytest.fixture
def flow() -> ConditionalFlow:
    """A flow in float64 that is far from the identity."""
    with torch.random.fork_rng():
        torch.manual_seed(5)
        made = ConditionalFlow(CHANNELS, CONDITION, couplings=3, clamp=1.9).double()
        for parameter in made.parameters():
            if parameter.requires_grad:
                parameter.data += 0.3 * torch.randn_like(parameter)
        made.get_buffer("mean").normal_()
        made.get_buffer("deviation").uniform_(0.5, 2.0)
    return made


@pytest.fixture
def given() -> tuple[torch.Tensor, torch.Tensor]:
    rng = torch.Generator().manual_seed(2)
    vectors = torch.randn(5, CHANNELS, generator=rng, dtype=torch.float64)
    return vectors, torch.randn(5, CONDITION, generator=rng, dtype=torch.float64)


def test_the_flow_can_be_inverted(flow: ConditionalFlow, given: tuple[torch.Tensor, torch.Tensor]) -> None:
    vectors, condition = given
    latent, forward = flow.couplings(vectors, [condition])
    back, backward = flow.couplings(latent, [condition], rev=True)
    torch.testing.assert_close(back, vectors)
    torch.testing.assert_close(backward, -forward)
    assert (latent - vectors).abs().max() > 0.5


def test_log_determinants_are_those_of_the_jacobian(
    flow: ConditionalFlow, given: tuple[torch.Tensor, torch.Tensor]
) -> None:
    vectors, condition = given
    log_determinant = flow.couplings(vectors, [condition])[1]
    for index in range(len(vectors)):
        jacobian = torch.autograd.functional.jacobian(
            lambda one, index=index: flow.couplings(one[None], [condition[index : index + 1]])[0][0],
            vectors[index],
        )
        expected = torch.linalg.slogdet(jacobian).logabsdet
        torch.testing.assert_close(log_determinant[index], expected)


def test_likelihood_is_that_of_the_couplings_by_hand(
    flow: ConditionalFlow, given: tuple[torch.Tensor, torch.Tensor]
) -> None:
    """Couplings written out in NumPy: half of the channels scaled and moved by what the other half says."""
    vectors, condition = (part.numpy() for part in given)
    x = (vectors - flow.get_buffer("mean").numpy()) / flow.get_buffer("deviation").numpy()
    log_determinant = np.zeros(len(x))
    half = CHANNELS // 2
    for block in flow.couplings:
        values = {name: value.detach().numpy() for name, value in block.named_parameters()}
        hidden = np.concatenate([x[:, :half], condition], axis=1)
        hidden = np.maximum(hidden @ values["subnet.0.weight"].T + values["subnet.0.bias"], 0)
        answer = 0.1 * (hidden @ values["subnet.2.weight"].T + values["subnet.2.bias"])
        log_scale, shift = 1.9 * np.tanh(answer[:, :half]), answer[:, half:]
        x = np.concatenate([x[:, :half], x[:, half:] * np.exp(log_scale) + shift], axis=1)
        scale = 0.1 * np.log1p(np.exp(0.5 * values["global_scale"])) / 0.5
        x = (x * scale + values["global_offset"]) @ values["w_perm"].T
        log_determinant += log_scale.sum(1) + np.log(scale).sum()
    expected = (-0.5 * (x**2).sum(1) - CHANNELS / 2 * math.log(2 * math.pi) + log_determinant) / CHANNELS
    np.testing.assert_allclose(flow(*given).detach().numpy(), expected, rtol=1e-10)


def test_encoding_of_a_place() -> None:
    channels, height, width = 8, 3, 5
    encoding = positional_encoding(channels, height, width).view(height, width, channels)
    for row in range(height):
        for column in range(width):
            expected = []
            for place in (row, column):
                for pair in range(channels // 4):
                    angle = place / 10000 ** (4 * pair / channels)
                    expected += [math.sin(angle), math.cos(angle)]
            torch.testing.assert_close(encoding[row, column], torch.tensor(expected))
    assert len(encoding.flatten(0, 1).unique(dim=0)) == height * width


def test_every_place_is_judged_by_its_own_vector_and_condition() -> None:
    config = CFLOWModelConfig(size=64, couplings=2, position_channels=8)
    network = CFLOWNetwork(config, (4, 6, 8), seed=1)
    rng = torch.Generator().manual_seed(0)
    features = [torch.randn(2, c, s, s, generator=rng) for c, s in ((4, 16), (6, 8), (8, 4))]
    with torch.inference_mode():
        found = network.log_likelihood(features)
        for level, (width, row, column) in enumerate(((16, 3, 11), (8, 7, 2), (4, 0, 3))):
            vector = features[level][1, :, row, column][None]
            place = network.locations(level)[row * width + column][None]
            torch.testing.assert_close(found[level][1, row, column], network.flows[level](vector, place)[0])


def test_map_is_one_minus_relative_probability() -> None:
    config = CFLOWConfig(
        model=CFLOWModelConfig(
            backbone="resnet18", pretrained=False, size=64, couplings=1, position_channels=4
        )
    )
    extractor = create_backbone("resnet18", pretrained=False)
    network = CFLOWNetwork(config.model, extractor.channels)
    network.largest.copy_(torch.tensor([0.5, 0.0, -1.0]))
    levels = [
        torch.full((1, 16, 16), 0.5 + math.log(0.25)),
        torch.zeros(1, 8, 8),
        torch.full((1, 4, 4), -math.inf),
    ]
    found, score = CFLOWDetector(config, extractor, network)._map(levels)
    torch.testing.assert_close(found, torch.full((1, 64, 64), 0.75 + 0.0 + 1.0))
    torch.testing.assert_close(score, torch.tensor([1.75]))


def test_numpys_global_generator_is_left_alone() -> None:
    np.random.seed(7)
    expected = np.random.random(3)
    np.random.seed(7)
    one = CFLOWNetwork(CFLOWModelConfig(size=64, couplings=2, position_channels=4), (8, 8, 8), seed=2)
    np.testing.assert_array_equal(np.random.random(3), expected)
    other = CFLOWNetwork(CFLOWModelConfig(size=64, couplings=2, position_channels=4), (8, 8, 8), seed=2)
    assert all(torch.equal(value, other.state_dict()[name]) for name, value in one.state_dict().items())


def test_steps_count_draws_and_limits() -> None:
    assert CFLOWTrainingConfig().steps(209) == 100 * 7 * 512
    assert CFLOWTrainingConfig(max_steps=300).steps(209) == 300
    assert CFLOWTrainingConfig(epochs=1, steps_per_batch=1, min_steps=50).steps(10) == 50


def test_the_learning_rate_warms_up_and_falls() -> None:
    rates = [warm_up_and_cosine(step, 200) for step in range(200)]
    assert rates[:4] == [0.25, 0.5, 0.75, 1.0]
    assert rates[4:] == sorted(rates[4:], reverse=True)
    assert 0 < rates[-1] < 1e-3
    assert warm_up_and_cosine(0, 1) == 1


def test_wrong_settings_are_named() -> None:
    with pytest.raises(InputError, match=r"model\.position_channels"):
        CFLOWConfig.from_values({"model": {"position_channels": 6}})
    with pytest.raises(InputError, match=r"training\.precision"):
        CFLOWConfig.from_values({"training": {"precision": "bf16"}})
