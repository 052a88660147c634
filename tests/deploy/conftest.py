"""A small run, and what it looks like when exported; tracing and exporting take long, so once a session."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from thfr.backbones import create_backbone
from thfr.methods.common.bank import TemplateBank
from thfr.methods.thfr import THFRConfig, THFRDetector, make_network

SIZE = 64


def pictures(count: int, height: int = 80, width: int = 100) -> list[np.ndarray]:
    """Good products: a disc near the middle, uint8 [H,W,3]."""
    rng = np.random.default_rng(5)
    y, x = np.mgrid[:height, :width]
    made = []
    for _ in range(count):
        centre = np.array([height, width]) / 2 + rng.normal(0, 2, 2)
        disc = (y - centre[0]) ** 2 + (x - centre[1]) ** 2 < (height / 3) ** 2
        colour = np.where(disc[..., None], [200, 150, 90], 50) + rng.normal(0, 6, (height, width, 3))
        made.append(colour.clip(0, 255).astype(np.uint8))
    return made


@pytest.fixture(scope="session")
def good_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ten good images."""
    folder = tmp_path_factory.mktemp("good")
    for number, picture in enumerate(pictures(10)):
        Image.fromarray(picture).save(folder / f"{number}.png")
    return folder


@pytest.fixture(scope="session")
def detector() -> THFRDetector:
    """THFR, untrained but whole, with a bank and a threshold."""
    torch.manual_seed(0)
    config = THFRConfig.from_values(
        {
            "model": {
                "backbone": "resnet18",
                "size": SIZE,
                "bottleneck_channels": 16,
                "global_blocks": 1,
                "pretrained": False,
            }
        }
    )
    extractor = create_backbone("resnet18", pretrained=False)
    network = make_network(config.model, extractor.channels)
    made = THFRDetector(config, extractor, network, None)
    prepared = made.prepare(pictures(10))
    made.bank = TemplateBank.build([level.clone() for level in made.features(prepared[:6])])
    made.calibrate(prepared, 0.2, "good images")
    return made


@pytest.fixture(scope="session")
def run_folder(detector: THFRDetector, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "run"
    folder.mkdir()
    detector.save(folder)
    return folder


@pytest.fixture(scope="session")
def program(detector: THFRDetector) -> torch.export.ExportedProgram:
    """The detector's graph."""
    from thfr.deploy.export.graph import trace
    from thfr.deploy.export.run import exported_limit

    assert detector.threshold is not None
    return trace(detector, exported_limit(detector.threshold))


@pytest.fixture(scope="session")
def exported(
    run_folder: Path,
    good_folder: Path,
    program: torch.export.ExportedProgram,
    tmp_path_factory: pytest.TempPathFactory,
) -> Path:
    """The run as ONNX."""
    if torch.__version__ < "2.7":
        pytest.skip("PyTorch 2.6 cannot write the graph")
    for package in ("onnx", "onnxscript", "onnxruntime"):
        pytest.importorskip(package, reason=f"the extra onnx is absent ({package})")
    from thfr.deploy.export import run

    out = tmp_path_factory.mktemp("exported") / "model"
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(run, "trace", lambda *given: program)
        run.export_run(run_folder, out, "onnx", good_folder)
    return out
