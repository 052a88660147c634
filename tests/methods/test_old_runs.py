"""Run folders and checkpoints written before methods, runs and predictions became packages still load."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from support.images import products, write_images
from support.methods import run
from support.old_runs import filled, images
from thfr.backbones import create_backbone
from thfr.methods import Detector, read_config
from thfr.methods.registry import method_names
from thfr.methods.thfr import THFRConfig
from thfr.runs.threshold import Threshold

HERE = Path(__file__).parent / "old_runs"
BEFORE = ("cflow", "draem", "gcad", "padim", "patchcore", "rd4ad", "spade", "student_teacher", "thfr")


def record(method: str) -> dict[str, Any]:
    return dict(json.loads((HERE / f"{method}.json").read_text(encoding="utf-8")))


def write_tensors(tensors: dict[str, Any], path: Path, header: dict[str, str] | None = None) -> None:
    save_file({name: filled(name, *kind) for name, kind in tensors.items()}, path, header)


def rebuilt(method: str, folder: Path) -> Path:
    """The run folder as the old code wrote it."""
    held = record(method)
    (folder / "config.yaml").write_text(held["config.yaml"])
    for name in ("run.json", "threshold.json"):
        (folder / name).write_text(json.dumps(held[name]))
    (folder / "log.jsonl").touch()
    write_tensors(held["model.safetensors"], folder / "model.safetensors")
    if "backbone.safetensors" in held["files"]:
        state = create_backbone("tf_efficientnet_lite0").state_dict()
        listed = sorted(f"{name} {tensor.dtype} {tuple(tensor.shape)}" for name, tensor in state.items())
        assert hashlib.sha256("\n".join(listed).encode()).hexdigest() == held["backbone_names_sha256"]
        save_file(dict(state), folder / "backbone.safetensors")
    assert sorted(path.name for path in folder.iterdir()) == held["files"]
    return folder


def test_every_method_of_then_is_here() -> None:
    assert set(BEFORE) <= set(method_names())
    assert {path.stem for path in HERE.glob("*.json")} == set(BEFORE)


@pytest.mark.parametrize("method", BEFORE)
def test_scores_are_those_of_then(method: str, tmp_path: Path) -> None:
    held = record(method)
    detector = Detector.load(rebuilt(method, tmp_path), "cpu")
    maps, scores = detector.score_prepared(images())
    torch.testing.assert_close(scores, torch.tensor(held["scores"]), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(maps.mean((1, 2)), torch.tensor(held["map_means"]), rtol=1e-4, atol=1e-5)
    assert detector.threshold is not None
    assert detector.threshold.value == held["threshold.json"]["value"]
    assert Threshold.load(tmp_path) == detector.threshold
    assert detector.state().keys() == held["model.safetensors"].keys()


def test_a_run_of_thfr_without_a_decoder_has_the_full_one(tmp_path: Path) -> None:
    assert "decoder" not in record("thfr")["config.yaml"]
    config = read_config(rebuilt("thfr", tmp_path) / "config.yaml")
    assert isinstance(config, THFRConfig)
    assert config.model.decoder == "full"


def test_a_checkpoint_of_then_is_resumed(tmp_path: Path) -> None:
    held = record("cflow")
    out = tmp_path / "run"
    out.mkdir()
    (out / "config.yaml").write_text(held["config.yaml"])
    checkpoint = held["checkpoint"]
    write_tensors(checkpoint["tensors"], out / "checkpoint.safetensors", checkpoint["header"])
    config = read_config(out / "config.yaml")
    detector = run(config, write_images(tmp_path / "good", products(8, 0)), out)
    assert json.loads((out / "log.jsonl").read_text().splitlines()[0]) == {"resumed_at": 2}
    scores = detector.score_prepared(images())[1]
    torch.testing.assert_close(scores, torch.tensor(checkpoint["scores"]), rtol=1e-4, atol=1e-5)
