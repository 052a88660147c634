"""Verdicts of the self-check on disk: which of them are believed."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from thfr_ext.core import verdicts
from thfr_ext.core.self_check import check_with

CPU = torch.device("cpu")
NAME = "cosine_distance"


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("THFR_CACHE", str(tmp_path))
    verdicts.of.cache_clear()
    return tmp_path


def test_a_process_that_cannot_start_is_a_crash() -> None:
    found = check_with([sys.executable, "-c", "import nothing_like_this"], CPU, [NAME], 60.0)["operators"]
    assert found[NAME]["verdict"] == "crashed"
    assert "nothing_like_this" in found[NAME]["detail"]


GOOD = {NAME: {"verdict": "ok", "speedup": 2.0}}


@pytest.mark.parametrize("part", ["module", "torch", "device", "format"])
def test_a_stale_cache_is_not_believed(part: str) -> None:
    key = verdicts.key_of(CPU)
    verdicts.save(key, GOOD)
    assert verdicts.load(key) == GOOD
    assert verdicts.load({**key, part: "another"}) is None


def test_a_file_of_another_key_is_not_believed() -> None:
    """Also if it has this key's name."""
    key = verdicts.key_of(CPU)
    path = verdicts.save(key, GOOD)
    record = json.loads(path.read_text())
    record["key"]["module"] = "another"
    path.write_text(json.dumps(record))
    assert verdicts.load(key) is None


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"key": 1}'])
def test_a_broken_file_is_not_believed(text: str) -> None:
    key = verdicts.key_of(CPU)
    verdicts.save(key, GOOD).write_text(text)
    assert verdicts.load(key) is None


@pytest.mark.parametrize(
    "verdict",
    [None, {}, {"verdict": "ok"}, {"verdict": "ok", "speedup": 0.9}, {"verdict": "wrong", "speedup": 3.0}],
)
def test_what_is_not_good(verdict: dict[str, Any] | None) -> None:
    assert not verdicts.good(verdict)


def test_saving_leaves_nothing_half_written(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    key = verdicts.key_of(CPU)
    verdicts.save(key, GOOD)

    def fail(*_: Any) -> None:
        raise OSError("no space left")

    monkeypatch.setattr(Path, "replace", fail)
    with pytest.raises(OSError, match="no space left"):
        verdicts.save(key, {})
    assert verdicts.load(key) == GOOD
    assert len(list(cache.iterdir())) == 1
