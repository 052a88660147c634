"""RD4AD: the student's shapes, and its map against plain arithmetic."""

from __future__ import annotations

import pytest
import torch
from scipy.ndimage import gaussian_filter
from thfr.backbones import create_backbone
from thfr.methods.common.residual import ResampledBlock
from thfr.methods.rd4ad.detector import RD4ADConfig, RD4ADDetector, RD4ADModelConfig
from thfr.methods.rd4ad.network import ReverseDistillation
from torch.nn import functional as F

SIZE = 64


def model_config(backbone: str = "tf_efficientnet_lite0", **fields: object) -> RD4ADModelConfig:
    return RD4ADModelConfig.model_validate(
        {"backbone": backbone, "pretrained": False, "size": SIZE, **fields}
    )


@pytest.mark.parametrize("kind", ["basic", "bottleneck"])
@pytest.mark.parametrize(("resampling", "edge"), [("down", 4), ("none", 8), ("up", 16)])
def test_a_block_changes_channels_and_resolution(kind: str, resampling: str, edge: int) -> None:
    block = ResampledBlock(6, 8, kind, resampling)  # type: ignore[arg-type]
    assert block(torch.randn(2, 6, 8, 8)).shape == (2, 8, edge, edge)


def test_only_a_rectified_block_has_no_negative_output() -> None:
    torch.manual_seed(0)
    x = torch.randn(2, 4, 8, 8)
    assert ResampledBlock(4, 8, "basic").forward(x).min() == 0
    assert ResampledBlock(4, 8, "basic", rectified=False).forward(x).min() < 0


@pytest.mark.parametrize(
    ("backbone", "channels"),
    [
        ("resnet18", (64, 128, 256)),
        ("wide_resnet50_2", (256, 512, 1024)),
        ("tf_efficientnet_lite0", (24, 40, 112)),
    ],
)
def test_it_gives_back_the_teachers_shapes(backbone: str, channels: tuple[int, int, int]) -> None:
    with torch.device("meta"):  # shapes alone
        network = ReverseDistillation(channels, model_config(backbone).mirror)
        levels = [
            torch.empty(2, count, SIZE // stride, SIZE // stride)
            for count, stride in zip(channels, (4, 8, 16), strict=True)
        ]
        embedding = network.embedding(levels)
        restored = network(levels)
    assert embedding.shape == (2, 2 * channels[2], SIZE // 32, SIZE // 32)
    assert [level.shape for level in restored] == [level.shape for level in levels]


def test_the_decoder_mirrors_its_backbone_unless_told_otherwise() -> None:
    mirror = model_config("wide_resnet50_2").mirror
    assert (mirror.kind, mirror.blocks, mirror.embedding_blocks) == ("bottleneck", (3, 4, 6), 3)
    network = ReverseDistillation((8, 16, 32), mirror)
    assert [len(stage) for stage in network.stages] == [6, 4, 3]  # type: ignore[arg-type]
    other = model_config("wide_resnet50_2", block="basic", blocks=1).mirror
    assert (other.kind, other.blocks, other.embedding_blocks) == ("basic", (1, 1, 1), 1)


def test_nothing_passes_the_student_but_its_embedding() -> None:
    torch.manual_seed(0)
    network = ReverseDistillation((8, 16, 32), model_config(blocks=1).mirror).eval()
    one, other = (
        [torch.randn(1, count, 16 // 2**level, 16 // 2**level) for level, count in enumerate((8, 16, 32))]
        for _ in range(2)
    )
    network.embedding.forward = lambda levels: torch.ones(1, 64, 2, 2)  # type: ignore[method-assign]
    for a, b in zip(network(one), network(other), strict=True):
        assert torch.equal(a, b)


def test_map_is_the_sum_of_blurred_cosine_distances() -> None:
    torch.manual_seed(0)
    config = RD4ADConfig(model=model_config())
    extractor = create_backbone(config.model.backbone, pretrained=False)
    network = ReverseDistillation(extractor.channels, config.model.mirror)
    detector = RD4ADDetector(config, extractor, network)
    images = torch.randint(0, 256, (2, 3, SIZE, SIZE), dtype=torch.uint8)
    maps, scores = detector.score_prepared(images)
    wanted = torch.zeros(2, SIZE, SIZE, dtype=torch.float64)
    with torch.inference_mode():
        features = extractor(images / 255)
        for level, restored in zip(features, network(features), strict=True):
            distance = 1 - F.cosine_similarity(level.double(), restored.double(), dim=1)
            wanted += F.interpolate(distance[:, None], (SIZE, SIZE), mode="bilinear")[:, 0]
    wanted = torch.from_numpy(gaussian_filter(wanted.numpy(), (0, 4, 4)))
    torch.testing.assert_close(maps.double(), wanted, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(scores.double(), wanted.amax((1, 2)), rtol=1e-4, atol=1e-5)
    assert detector.restorations(features)[0].shape == features[0].shape
