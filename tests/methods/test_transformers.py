"""Every method behind a vision transformer: levels of one stride, grids with odd edges, patches of 14 pixels.

The contract suite holds the methods to everything else; here is what depends on the grid.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from support.images import SPOT, products, spotted, write_images
from support.methods import SIZE, SMALL, small_config
from thfr.backbones import backbone_spec
from thfr.backbones.factory import create_backbone
from thfr.config import RunConfig
from thfr.deploy.export.graph import trace
from thfr.methods import Detector
from thfr.methods.registry import config_class, config_from_values, method_names
from thfr.study.presets import changed
from thfr.training import train
from torch.nn import functional as F

METHODS = tuple(name for name in method_names() if config_class(name).uses_backbone)
SEEN = (80, 112)  # 5 x 7 patches
MEMORIES = ("padim", "patchcore", "spade")  # which find something with random features, too

every_method = pytest.mark.parametrize("method", METHODS)


def config_of(method: str, backbone: str = "test_vit", size: tuple[int, int] = SEEN) -> RunConfig:
    sections = SMALL.get(method, {})
    model = {**sections.get("model", {}), "backbone": backbone, "pretrained": False, "size": size}
    return config_from_values({"method": method, "model": model, "training": sections.get("training", {})})


@pytest.fixture(scope="module")
def paths(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    return write_images(tmp_path_factory.mktemp("good"), products(6, 0))


@pytest.fixture(scope="module")
def runs(paths: list[Path], tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Method -> folder and detector of its run."""

    @cache
    def made(method: str) -> tuple[Path, Detector[Any]]:
        folder = tmp_path_factory.mktemp(method) / "run"
        return folder, train(config_of(method), paths, folder, progress=False, device="cpu")

    return made


def enlarged(images: torch.Tensor) -> torch.Tensor:
    return F.interpolate(images, SEEN, mode="nearest")


@every_method
def test_maps_and_files(method: str, runs: Any) -> None:
    folder, detector = runs(method)
    images = enlarged(spotted(2, 5))
    maps, scores = detector.score_prepared(images)
    assert maps.shape == (2, *SEEN)
    assert maps.isfinite().all()
    assert maps.std() > 0
    again = Detector.load(folder, "cpu").score_prepared(images)
    assert torch.equal(maps, again[0])
    assert torch.equal(scores, again[1])
    near = Detector.load(folder, "cpu", "bf16").score_prepared(images)
    torch.testing.assert_close(near[1], scores, rtol=0.1, atol=0.1)


@pytest.mark.parametrize("method", MEMORIES)
def test_a_defect_is_where_it_is(method: str, runs: Any) -> None:
    _, detector = runs(method)
    maps, bad = detector.score_prepared(enlarged(spotted(3, 8)))
    assert bad.min() > detector.score_prepared(enlarged(products(3, 7)))[1].max()
    for place in maps.flatten(1).argmax(1).tolist():
        y, x = (at * SIZE // edge for at, edge in zip(divmod(place, SEEN[1]), SEEN, strict=True))
        assert SPOT[0].start - 16 <= y < SPOT[0].stop + 16  # a patch more or less
        assert SPOT[1].start - 16 <= x < SPOT[1].stop + 16


@pytest.mark.parametrize("method", ["patchcore", "thfr"])
def test_the_traced_program_says_the_same(method: str, runs: Any) -> None:
    _, detector = runs(method)
    images = enlarged(spotted(3, 2))
    program = trace(detector, 0.5)
    assert "bicubic" not in str(program.graph)  # the position embedding is a constant
    maps, scores, _ = program.module()(images.permute(0, 2, 3, 1))
    expected = detector.score_prepared(images)
    torch.testing.assert_close(maps, expected[0], rtol=1e-3, atol=1e-3 * float(expected[0].max()))
    torch.testing.assert_close(scores, expected[1], rtol=1e-3, atol=1e-4)


def test_a_light_decoder_on_patches_of_14_pixels(paths: list[Path], tmp_path: Path) -> None:
    config = config_of("thfr", "eva02_tiny_patch14_224", (70, 98))
    config = changed(config, {"model": {"decoder": "light"}}, "test")
    detector = train(config, paths, tmp_path / "run", progress=False, device="cpu")
    images = F.interpolate(spotted(1, 1), (70, 98))
    maps, scores = Detector.load(tmp_path / "run", "cpu").score_prepared(images)
    assert maps.isfinite().all()
    torch.testing.assert_close(scores, detector.score_prepared(images)[1], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("method", ["gcad", "rd4ad", "student_teacher", "thfr"])
def test_patches_of_14_pixels(method: str, paths: list[Path], tmp_path: Path) -> None:
    """Their grid is that of no power of two: networks of stride 2 see another size, or cut."""
    config = config_of(method, "eva02_tiny_patch14_224", (70, 98))
    detector = train(config, paths, tmp_path / "run", progress=False, device="cpu")
    maps, _ = detector.score_prepared(F.interpolate(spotted(1, 1), (70, 98)))
    assert maps.shape == (1, 70, 98)
    assert maps.isfinite().all()


def test_a_run_keeps_its_depths(paths: list[Path], tmp_path: Path) -> None:
    values = config_of("patchcore").model_dump(mode="json")
    values["model"]["depths"] = [0, 1, 4]
    config = config_from_values(values)
    train(config, paths, tmp_path / "run", progress=False, device="cpu")
    loaded = Detector.load(tmp_path / "run", "cpu")
    assert loaded.extractor.spec.levels == (0, 1, 4)
    assert len(loaded.extractor.body.model.blocks) == 5  # those behind are not kept
    plain = create_backbone("test_vit", pretrained=False)
    assert len(plain.body.model.blocks) == backbone_spec("test_vit").levels[2] + 1
    assert small_config("patchcore").model.depths is None
