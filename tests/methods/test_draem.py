"""DRAEM's parts: noise, textures, simulated anomalies, losses, networks."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from skimage.metrics import structural_similarity as skimage_similarity
from thfr.errors import InputError
from thfr.methods.draem import DRAEMConfig
from thfr.methods.draem.detector import drops, shrunk
from thfr.methods.draem.losses import focal_loss, structural_similarity
from thfr.methods.draem.networks import RECONSTRUCTION_WIDTHS, DRAEMNetwork, UShaped
from thfr.methods.draem.noise import perlin_noise, random_gradients, uniform
from thfr.methods.draem.simulation import anomaly_mask, simulate, turned
from thfr.methods.draem.textures import PATTERNS, TextureSource
from thfr.random_streams import generator, integer


@pytest.fixture
def stock() -> torch.Tensor:
    rng = torch.Generator().manual_seed(1)
    return torch.randint(0, 256, (4, 3, 48, 48), generator=rng, dtype=torch.uint8)


def noise_by_hand(gradients: np.ndarray, height: int, width: int) -> np.ndarray:
    """Perlin's noise, pixel by pixel."""
    rows, columns = gradients.shape[0] - 1, gradients.shape[1] - 1
    result = np.empty((height, width))
    for i in range(height):
        for j in range(width):
            y, x = (i + 0.5) * rows / height, (j + 0.5) * columns / width
            top, left = math.floor(y), math.floor(x)
            value = 0.0
            for corner_y in (top, top + 1):
                for corner_x in (left, left + 1):
                    dy, dx = y - corner_y, x - corner_x
                    weights = [1 - (6 * abs(d) ** 5 - 15 * abs(d) ** 4 + 10 * abs(d) ** 3) for d in (dy, dx)]
                    slope = gradients[corner_y, corner_x]
                    value += weights[0] * weights[1] * (slope[0] * dy + slope[1] * dx)
            result[i, j] = math.sqrt(2) * value
    return result


@pytest.mark.parametrize(("rows", "columns", "size"), [(1, 1, (8, 8)), (3, 5, (20, 16)), (16, 4, (24, 30))])
def test_noise_is_perlins(rows: int, columns: int, size: tuple[int, int]) -> None:
    gradients = random_gradients(rows, columns, generator(0, 99, 1)).double()
    torch.testing.assert_close(gradients.norm(dim=2), torch.ones(rows + 1, columns + 1).double())
    found = perlin_noise(gradients, size)
    np.testing.assert_allclose(found.numpy(), noise_by_hand(gradients.numpy(), *size), atol=1e-12)
    assert found.abs().max() <= 1


def test_draws_stay_in_their_range() -> None:
    rng = generator(0, 99, 2)
    assert {integer(rng, 2, 4) for _ in range(100)} == {2, 3, 4}
    numbers = [uniform(rng, -3, -1) for _ in range(200)]
    assert -3 <= min(numbers) < -2.8
    assert -1.2 < max(numbers) < -1


@pytest.mark.parametrize("kind", PATTERNS)
def test_patterns_fill_their_range_and_differ(kind: str) -> None:
    drawn = [PATTERNS[kind](40, generator(0, 99, step)) for step in range(6)]
    for pattern in drawn:
        assert pattern.shape == (40, 40)
        assert pattern.min() >= 0
        assert pattern.max() <= 1
        assert pattern.std() > 0.01
    assert not torch.equal(drawn[0], drawn[1])
    assert torch.equal(drawn[3], PATTERNS[kind](40, generator(0, 99, 3)))


def test_textures_are_functions_of_the_generator(stock: torch.Tensor) -> None:
    source = TextureSource(stock)
    drawn = [source.draw(generator(0, 99, step)) for step in range(30)]
    for texture in drawn:
        assert texture.shape == (3, 48, 48)
        assert texture.dtype == torch.float32
        assert 0 <= texture.min() <= texture.max() <= 1
    torch.rand(1)
    assert torch.equal(drawn[7], TextureSource(stock).draw(generator(0, 99, 7)))
    assert len({texture.numpy().tobytes() for texture in drawn}) == 30


def test_textures_from_a_folder(stock: torch.Tensor, tmp_path: Path) -> None:
    (tmp_path / "woven").mkdir()
    Image.new("RGB", (90, 60), (200, 20, 20)).save(tmp_path / "woven" / "red.png")
    source = TextureSource(stock, str(tmp_path))
    for step in range(10):
        assert (
            source.draw(generator(0, 99, step)).std(dim=(1, 2)).max() == 0
        )  # of one colour, however changed
    (tmp_path / "woven" / "red.png").write_bytes(b"no image")
    with pytest.raises(InputError, match=r"red\.png"):
        source.draw(generator(0, 99, 0))
    (tmp_path / "woven" / "red.png").unlink()
    with pytest.raises(InputError, match="holds no image"):
        TextureSource(stock, str(tmp_path))
    with pytest.raises(InputError, match="folder"):
        TextureSource(stock, str(tmp_path / "absent"))


def test_masks_cover_a_part(stock: torch.Tensor) -> None:
    shares = [float(anomaly_mask((64, 64), generator(0, 99, step)).float().mean()) for step in range(60)]
    assert 0.02 < sum(shares) / 60 < 0.2
    assert max(shares) < 0.6


def test_only_the_mask_is_changed(stock: torch.Tensor) -> None:
    source, image = TextureSource(stock), stock[0] / 255
    changed = 0
    for step in range(40):
        spoilt, mask = simulate(image, source, 0.5, generator(0, 99, step))
        differs = (spoilt != image).any(dim=0)
        assert not differs[~mask].any()
        changed += bool(mask.any())
        if mask.any():
            assert differs[mask].float().mean() > 0.5
        assert 0 <= spoilt.min() <= spoilt.max() <= 1
    assert 8 <= changed <= 30
    assert not any(simulate(image, source, 0.0, generator(0, 99, step))[1].any() for step in range(20))


def test_the_texture_shows_by_its_opacity() -> None:
    """A grey image under a white texture: the change over the mask is the opacity, from 0.1 to 1."""

    class White(TextureSource):
        def draw(self, rng: torch.Generator) -> torch.Tensor:
            return torch.ones(3, 48, 48)

    image, found = torch.zeros(3, 48, 48), []
    for step in range(80):
        spoilt, mask = simulate(image, White(torch.zeros(1, 3, 48, 48)), 1.0, generator(0, 99, step))
        if mask.any():
            values = spoilt[:, mask]
            assert values.std() < 1e-6
            found.append(float(values.mean()))
    assert 0.1 <= min(found) < 0.25
    assert 0.85 < max(found) <= 1


def test_turning() -> None:
    image = torch.rand(2, 32, 32, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(turned(image, 0.0, generator(0, 99, 0)), image)

    rng = generator(0, 99, 5)
    angle = uniform(rng, -45, 45)
    spot = torch.zeros(1, 33, 33)
    spot[0, 16, 28] = 1  # 12 pixels right of the centre
    place = int(turned(spot, 45, generator(0, 99, 5)).flatten().argmax())
    y, x = divmod(place, 33)
    assert abs(math.hypot(y - 16, x - 16) - 12) < 1
    assert abs(abs(math.degrees(math.atan2(y - 16, x - 16))) - abs(angle)) < 5


def test_similarity_is_that_of_skimage() -> None:
    rng = np.random.default_rng(0)
    first, second = rng.random((3, 30, 26)), rng.random((3, 30, 26))
    _, expected = skimage_similarity(
        first,
        second,
        data_range=1.0,
        channel_axis=0,
        gaussian_weights=True,
        sigma=1.5,
        use_sample_covariance=False,
        full=True,
    )
    found = structural_similarity(torch.from_numpy(first)[None], torch.from_numpy(second)[None])[0]
    np.testing.assert_allclose(found.numpy(), expected[:, 5:-5, 5:-5], atol=1e-12)
    same = torch.from_numpy(first)[None]
    torch.testing.assert_close(structural_similarity(same, same), torch.ones(1, 3, 20, 16).double())


def test_focal_loss_by_hand() -> None:
    logits = torch.tensor([[[[0.0, 3.0]], [[1.0, -2.0]]]], dtype=torch.float64)
    labels = torch.tensor([[[True, True]]])
    right = [math.exp(1) / (1 + math.exp(1)), math.exp(-2) / (math.exp(3) + math.exp(-2))]
    expected = sum(-((1 - p) ** 2) * math.log(p) for p in right) / 2
    assert float(focal_loss(logits, labels)) == pytest.approx(expected, rel=1e-12)
    cross = torch.nn.functional.cross_entropy(logits, labels.long())
    torch.testing.assert_close(focal_loss(logits, labels, gamma=0.0), cross)


def test_the_restoration_has_only_the_bottleneck_and_the_u_net_its_connections() -> None:
    """With its last encoder stage silenced the auto-encoder forgets the image, the U-Net does not."""
    one, other = torch.rand(2, 1, 3, 64, 64, generator=torch.Generator().manual_seed(3)).unbind()
    for skips in (False, True):
        network = UShaped(3, 2, 4, RECONSTRUCTION_WIDTHS, skips).eval()
        network.encoder[-1].register_forward_hook(lambda *call: torch.zeros_like(call[2]))
        with torch.inference_mode():
            assert torch.equal(network(one), network(other)) is not skips


def test_shapes_and_widths() -> None:
    network = DRAEMNetwork(8, 4).eval()
    with torch.inference_mode():
        restored, logits = network(torch.rand(2, 3, 64, 32))
    assert restored.shape == (2, 3, 64, 32)
    assert logits.shape == (2, 2, 64, 32)
    deepest = [part.encoder[-1][0][0] for part in (network.reconstruction, network.discrimination)]
    assert [layer.out_channels for layer in deepest] == [64, 32]


def test_shrinking_averages() -> None:
    image = torch.zeros(1, 3, 64, 64, dtype=torch.uint8)
    image[..., 32:] = 200
    small = shrunk(image, (32, 32))
    assert small.dtype == torch.uint8
    assert small[..., :15].max() == 0
    assert small[..., 17:].min() == 200
    assert shrunk(image, (64, 64)) is image


def test_the_learning_rate_drops_twice() -> None:
    rates = [drops(step, 700) for step in range(700)]
    assert rates[399] == 1
    assert rates[400] == pytest.approx(0.1)
    assert rates[599] == pytest.approx(0.1)
    assert rates[699] == pytest.approx(0.01)


@pytest.mark.parametrize(
    ("model", "said"),
    [
        ({"network_size": 512}, "at most size"),
        ({"network_size": 100}, "multiple of 32"),
        ({"smoothing": 20}, "odd"),
    ],
)
def test_wrong_settings_are_named(model: dict[str, int], said: str) -> None:
    with pytest.raises(InputError, match=said):
        DRAEMConfig.from_values({"model": model})
