"""``thfr verify``."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from thfr.cli import main


def test_a_good_set(plates: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert (
        main(["verify", "--dataset", "mvtec_ad", "--data", str(plates), "--category", "plate", "--json"]) == 0
    )
    found = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert found["images"] == {"train": 4, "validation": 0, "test": 4}
    assert (found["kinds"], found["masks"], found["problems"], found["notes"]) == (["scratch"], True, [], [])


def test_all_problems_at_once(plates: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.copytree(plates / "plate", tmp_path / "plate")
    (tmp_path / "plate/train/good/001.png").write_bytes(b"")
    (tmp_path / "plate/ground_truth/scratch/000_mask.png").write_bytes(b"")
    assert main(["verify", "--dataset", "mvtec_ad", "--data", str(tmp_path)]) == 2
    shown = capsys.readouterr().out
    assert "2 problem(s)" in shown
    assert "001.png" in shown
    assert "000_mask.png" in shown


def test_a_wrong_layout(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["verify", "--dataset", "visa", "--data", str(tmp_path)]) == 2
    assert "Data/Images" in capsys.readouterr().err
