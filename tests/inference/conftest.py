"""A detector that is small and untrained, but whole."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from thfr.backbones import create_backbone
from thfr.methods.common.bank import TemplateBank
from thfr.methods.thfr.config import THFRConfig, THFRModelConfig
from thfr.methods.thfr.detector import THFRDetector
from thfr.methods.thfr.making import make_network

SIZE = 64


def make_detector(variant: str) -> THFRDetector:
    torch.manual_seed(0)
    model = THFRModelConfig(
        variant=variant,
        backbone="tf_efficientnet_lite0",
        size=SIZE,
        bottleneck_channels=16,
        pretrained=False,
    )
    extractor = create_backbone(model.backbone, pretrained=False)
    detector = THFRDetector(
        THFRConfig(model=model), extractor, make_network(model, extractor.channels), None, "cpu"
    )
    if variant == "thfr":
        images = torch.randint(0, 256, (6, 3, SIZE, SIZE), dtype=torch.uint8)
        detector.bank = TemplateBank.build(detector.features(images))
    return detector


@pytest.fixture(scope="session")
def detector() -> THFRDetector:
    return make_detector("thfr")


@pytest.fixture(scope="session")
def gl_detector() -> THFRDetector:
    return make_detector("gl")


def write_image(path: Path, height: int = 40, width: int = 56, seed: int = 0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)
    return path
