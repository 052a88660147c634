"""Options for studies of seconds on two tiny categories."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from thfr.cli import main

TINY = {"model": {"pretrained": False, "bottleneck_channels": 16}, "training": {"batch_size": 2}}


@pytest.fixture(scope="session")
def data(plates: Path) -> Path:
    return plates


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Options that make a training of a second: random backbone weights, 64 x 64 pixels, one epoch."""
    path = tmp_path_factory.mktemp("config") / "tiny.yaml"
    path.write_text(yaml.safe_dump(TINY))
    options = ["--dataset", "mvtec_ad", "--backbone", "resnet18", "--size", "64", "--epochs", "1"]
    return [*options, "--device", "cpu", "--config", str(path)]


@pytest.fixture
def call(capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, dict[str, Any]]]:
    """Run a command with ``--json``; gives its exit code and its result, empty if there is none."""

    def run(*arguments: object) -> tuple[int, dict[str, Any]]:
        code = main([*map(str, arguments), "--json"])
        lines = capsys.readouterr().out.splitlines()
        return code, json.loads(lines[-1]) if lines else {}

    return run
