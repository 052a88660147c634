"""GCAD: what its global branch can say and what trains it; its errors against plain arithmetic."""

from __future__ import annotations

import pytest
import torch
from thfr.methods.gcad import Branches, GCADModelConfig, GCADNetwork, GlobalEncoder, UNet

SIZE = 64
MODEL = GCADModelConfig(backbone="resnet18", pretrained=False, size=SIZE, width=4, bottleneck=3, descriptor=5)
CHANNELS = (8, 16, 32)


def levels(batch: int = 2) -> list[torch.Tensor]:
    return [
        torch.randn(batch, count, SIZE // stride, SIZE // stride)
        for count, stride in zip(CHANNELS, (4, 8, 16), strict=True)
    ]


@pytest.mark.parametrize("stride", [4, 8, 16])
@pytest.mark.parametrize("size", [(64, 64), (96, 96), (80, 112)])  # the last an odd number of cells of 16
def test_networks_give_one_descriptor_a_cell(stride: int, size: tuple[int, int]) -> None:
    images = torch.randn(2, 3, *size)
    wanted = (2, 5, size[0] // stride, size[1] // stride)
    assert UNet(5, stride, 4)(images).shape == wanted
    encoder = GlobalEncoder(5, stride, 4, 3, size)
    assert encoder(images).shape == wanted
    assert encoder.squeezed(images).shape == (2, 3)


def test_the_global_encoder_says_nothing_but_its_few_numbers() -> None:
    torch.manual_seed(0)
    encoder = GlobalEncoder(5, 8, 4, 3, (SIZE, SIZE)).eval()
    one, other = torch.randn(2, 1, 3, SIZE, SIZE)
    assert not torch.allclose(encoder(one), encoder(other))
    encoder.squeezed = lambda images: torch.ones(1, 3)  # type: ignore[method-assign]
    assert torch.equal(encoder(one), encoder(other))


def test_every_pixel_reaches_every_place_of_the_global_encoder() -> None:
    torch.manual_seed(0)
    encoder = GlobalEncoder(5, 8, 4, 3, (SIZE, SIZE)).eval()
    image = torch.randn(1, 3, SIZE, SIZE, requires_grad=True)
    encoder(image)[0, :, 0, 0].sum().backward()
    assert image.grad is not None
    assert image.grad[0, :, -4:, -4:].abs().max() > 0


def test_each_network_is_trained_by_its_own_loss() -> None:
    torch.manual_seed(0)
    branches = Branches(16, 8, MODEL)
    images, target = torch.randn(2, 3, SIZE, SIZE), torch.randn(2, 16, 8, 8)
    trained = {
        "local": {"local_regression"},
        "distillation": {"encoder", "lift"},
        "global": {"global_regression"},
    }
    for name, expected in trained.items():
        branches.zero_grad(set_to_none=True)
        branches.losses(images, target)[name].backward()
        moved = {key.split(".")[0] for key, value in branches.named_parameters() if value.grad is not None}
        assert moved == expected


def test_errors_and_losses_of_all_scales() -> None:
    torch.manual_seed(0)
    network = GCADNetwork(MODEL, CHANNELS).eval()
    images, features = torch.randn(2, 3, SIZE, SIZE), levels()
    with torch.inference_mode():
        maps, losses = network.errors(images, features), network.losses(images, features)
        assert len(maps) == 4
        for index, level in enumerate((2, 3)):
            both, target = network.branches[index], features[level - 1].double()
            assert isinstance(both, Branches)
            encoded = both.encoder(images).double()
            local = (both.local_regression(images).double() - target).pow(2)
            of_global = (both.global_regression(images).double() - encoded).pow(2)
            lifted = (both.lift(encoded.float()).double() - target).pow(2)
            torch.testing.assert_close(maps[2 * index].double(), local.sum(1), rtol=1e-4, atol=1e-4)
            torch.testing.assert_close(maps[2 * index + 1].double(), of_global.sum(1), rtol=1e-4, atol=1e-4)
            for name, wanted in (("local", local), ("global", of_global), ("distillation", lifted)):
                assert float(losses[f"{name}{level}"]) == pytest.approx(float(wanted.mean()), rel=1e-4)
