"""Masks, rectangles and areas over HTTP and in a watched folder."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from thfr.cli import main
from thfr.deploy.watch.watcher import Watcher, WatchSettings
from thfr.predictions.judging import Rules, Where

from .conftest import Brightness, encoded, picture

LEFT = np.zeros((10, 14), bool)
LEFT[:, :4] = True  # of an image of 40 x 56: its first 16 columns; the spot is at 20 to 27


def test_rectangles_of_a_request(client_of: Callable[..., Any]) -> None:
    client = client_of(Brightness())

    def ask(query: str) -> Any:
        return client.post(f"/v1/inspect?{query}", content=encoded(picture(spot=255)))

    assert ask("").json()["verdict"] == "bad"
    assert ask("ignore=20,10,8,8").json()["verdict"] == "good"
    assert ask("region=0,0,10,10&region=20,10,2,2").json()["findings"][0]["area"] == 4
    assert ask("ignore=20,10,8,4&ignore=20,14,8,4").json()["findings"] == []
    for query, status in (("region=1,2,3", 422), ("region=0,0,0,5", 422), ("region=99,0,5,5", 422)):
        assert ask(query).status_code == status
    assert "leave nothing of an image of 56 x 40" in ask("region=99,0,5,5").json()["detail"]


def test_a_mask_of_one_model(client_of: Callable[..., Any]) -> None:
    client = client_of(Brightness("a"), Brightness("b"), where={"b": Where(ignore=~LEFT)})
    for model, verdict in (("a", "bad"), ("b", "good")):
        answer = client.post(f"/v1/inspect?model={model}", content=encoded(picture(spot=255)))
        assert answer.json()["verdict"] == verdict


def test_a_watched_folder(tmp_path: Path) -> None:
    (tmp_path / "camera").mkdir()
    (tmp_path / "camera/a.png").write_bytes(encoded(picture(spot=255)))
    rules = Rules(min_area=65, where=Where(ignore=LEFT))
    settings = WatchSettings(settle=0.0, interval=0.01, rules=rules)
    watcher = Watcher(Brightness(), tmp_path / "camera", tmp_path / "out", settings)
    watcher.run(once=True)
    (row,) = watcher.journal.rows()
    assert (row["verdict"], row["findings"]) == ("bad", [])
    watcher.close()


def test_wrong_masks_are_said_before_anything_is_watched(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from support.images import products, write_images
    from support.methods import run, small_config

    run(small_config("spade", holdout=0.3), write_images(tmp_path / "good", products(6, 0)), tmp_path / "run")
    run_folder, good, out = (str(tmp_path / name) for name in ("run", "good", "out"))
    command = ["watch", run_folder, good, "--out", out, "--once"]
    assert main([*command, "--region", "absent.png", "--device", "cpu"]) == 2
    assert "--region: " in capsys.readouterr().err
    assert main([*command, "--dead-letters", "x", "--device", "cpu"]) == 2
    assert "--dead-letters: expected --webhook or --mqtt too" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
