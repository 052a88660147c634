"""Exports in other precisions and with other inputs."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from support.exporting import exporting
from thfr.cli import main
from thfr.deploy import files
from thfr.deploy.export import formats
from thfr.deploy.export import run as export
from thfr.deploy.export.graph import trace
from thfr.deploy.export.parity import LIMITS
from thfr.deploy.export.resizing import NativeInput, largest_edge, require_plain, resized
from thfr.deploy.exported import load
from thfr.errors import InputError
from thfr.io import PixelRange, ReadOptions, resize_for_model
from thfr.methods.thfr import THFRDetector, make_network
from thfr.runs.inputs import RunInputs
from thfr.study.presets import changed
from torch import Tensor, nn

from .conftest import SIZE, pictures


def test_the_graph_of_a_light_network(detector: THFRDetector) -> None:
    config = changed(detector.config, {"model": {"decoder": "light"}}, "test")
    torch.manual_seed(0)
    network = make_network(config.model, detector.extractor.channels)
    for stage in network.stages:
        torch.nn.init.normal_(stage.head.weight, std=0.1)
    light = THFRDetector(config, detector.extractor, network, detector.bank)
    images = light.prepare(pictures(3))
    maps, scores, _ = trace(light, 0.5).module()(images.permute(0, 2, 3, 1))
    expected = light.score_prepared(images)
    torch.testing.assert_close(maps, expected[0], rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(scores, expected[1], rtol=1e-3, atol=1e-4)


@exporting
@pytest.mark.parametrize("wrong", [False, True])
def test_int8_has_limits_of_its_own(
    exported: Path,
    run_folder: Path,
    good_folder: Path,
    tmp_path: Path,
    wrong: bool,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Beyond them the command exits with 1 and writes nothing."""

    def write_onnx(program: Any, path: Path) -> dict[str, Any]:
        shutil.copy(exported / "model.onnx", path)
        return {}

    monkeypatch.setattr(export, "trace", lambda *given: None)
    monkeypatch.setattr(formats, "_write_onnx", write_onnx)
    # an untrained run gives nearly the same score to all images, so half of the verdicts may change
    monkeypatch.setitem(LIMITS, "int8", (1e-4, 1e-3, 0.5, 99) if wrong else (0.1, 0.2, 0.5, 99))
    out = tmp_path / "int8"
    command = ["export", str(run_folder), "--images", str(good_folder), "--int8", "--out", str(out), "--json"]
    assert main(command) == int(wrong)
    found = json.loads(capsys.readouterr().out.splitlines()[-1])
    if wrong:
        assert not found["parity"]["passed"]
        assert list(tmp_path.iterdir()) == []
        return
    parity = found["parity"]
    assert parity["passed"]
    assert parity["score_difference"] > 1e-4 * parity["largest_score"]  # it is another model
    assert load(out).precision == "int8"
    sizes = [(folder / "model.onnx").stat().st_size for folder in (out, exported)]
    assert sizes[0] < 0.8 * sizes[1]
    assert sorted(path.name for path in out.iterdir()) == ["export.json", "model.onnx", "parity.json"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--int8", "--format", "torch"], "--int8: expected --format onnx, got torch"),
        (["--bf16"], "--bf16: expected --format openvino, got onnx"),
    ],
)
@exporting
def test_not_every_format_has_every_precision(
    run_folder: Path, tmp_path: Path, options: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["export", str(run_folder), "--out", str(tmp_path / "out"), *options]) == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("shape", "size"),
    [((300, 70), (64, 64)), ((20, 200), (64, 96)), ((64, 64), (64, 64)), ((63, 65), (96, 32))],
)
def test_the_resize_in_the_graph_is_pillows(shape: tuple[int, int], size: tuple[int, int]) -> None:
    pixels = np.random.default_rng(0).integers(0, 2, (2, *shape, 3), dtype=np.uint8) * 255
    found = resized(torch.from_numpy(pixels), size)
    assert np.array_equal(found.numpy(), [resize_for_model(image, size) for image in pixels])


def test_the_weights_of_the_largest_image_fit() -> None:
    """Else they would overflow in a runtime that computes in 32 bits."""
    for size in (64, 256, 1024):
        edge = largest_edge((size, size))
        total = 2 * edge * edge // size + 2 * edge  # of the shares of one output
        assert total * 4096 < 2**31


class Graph(nn.Module):
    """Of images of the input size."""

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        anomaly_map = image.float().mean(3)
        score = anomaly_map.amax((1, 2))
        return anomaly_map, score, score > 128


def test_a_native_model_takes_images_of_any_size(tmp_path: Path, exported: Path) -> None:
    edges = {
        number: torch.export.Dim(name, min=2, max=2000) for number, name in ((1, "height"), (2, "width"))
    }
    image = torch.zeros((2, 72, 88, 3), dtype=torch.uint8)
    batch = {0: torch.export.Dim("batch", min=1, max=9)}
    program = torch.export.export(
        NativeInput(Graph(), (SIZE, SIZE)), (image,), dynamic_shapes=({**batch, **edges},)
    )
    formats.write(program, "onnx", tmp_path)
    held = json.loads((exported / files.METADATA).read_text())
    held |= {"native_input": True, "input": {"largest_edge": 2000}, "size": [SIZE, SIZE]}
    (tmp_path / files.METADATA).write_text(json.dumps(held))
    images = [*pictures(2), *pictures(1, 33, 500), *pictures(1, SIZE, SIZE)]
    found = load(tmp_path).score(images)
    wanted = [resize_for_model(one, (SIZE, SIZE)).astype(np.float32).mean(2).max() for one in images]
    np.testing.assert_allclose(found.scores, wanted, rtol=1e-6)
    assert [one.shape for one in found.maps] == [one.shape[:2] for one in images]
    with pytest.raises(InputError, match=r"images\[0\] must have edges of at most 2000"):
        load(tmp_path).score([np.zeros((2001, 9, 3), np.uint8)])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (ReadOptions(PixelRange.of_bits(12)), "scales its pixels"),
        (ReadOptions(PixelRange.of_bits(8), fit="letterbox"), "letterboxes"),
    ],
)
def test_what_a_graph_cannot_resize(options: ReadOptions, message: str) -> None:
    detector: Any = SimpleNamespace(inputs=RunInputs(options))
    with pytest.raises(InputError, match=f"--input native: .*{message}"):
        require_plain(detector)
