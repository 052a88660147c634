"""From "this was good" on the page to a model that does not raise that alarm again."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from support.images import products, spotted, write_images
from support.methods import small_config
from thfr.data import load_dataset
from thfr.deploy.model import FolderModel
from thfr.runs.folder import read_metadata
from thfr.training import train

from .conftest import Brightness, encoded, picture

pytest.importorskip("sqlalchemy", reason="needs thfr-ext[serve]")

from thfr.deploy.inspections import InspectionLog
from thfr.deploy.serve.teaching import Teacher

SAID = {"who": "Ada", "why": "a new label"}


def png(image: torch.Tensor) -> bytes:
    return encoded(image.permute(1, 2, 0).numpy())


def labelled(count: int, seed: int) -> torch.Tensor:
    images = products(count, seed)
    images[:, :, 10:20, 8:26] = torch.tensor([235, 225, 190], dtype=torch.uint8)[:, None, None]
    return images


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("taught")
    write_images(root / "good", products(12, 0))
    config = small_config("patchcore", holdout=0.4)
    train(config, load_dataset("folder", root / "good"), root / "plate", progress=False, device="cpu")
    return root / "plate"


@pytest.fixture
def log(tmp_path: Path) -> Iterator[InspectionLog]:
    opened = InspectionLog(f"sqlite:///{tmp_path / 'line.db'}", originals=3)
    yield opened
    opened.close()


def test_what_people_called_good_is_taught(
    folder: Path, log: InspectionLog, client_of: Callable[..., Any], tmp_path: Path
) -> None:
    teacher = Teacher(log, tmp_path / "taught", "cpu")
    client = client_of(FolderModel(folder, "cpu"), log=log, teacher=teacher)
    assert client.get("/v1/models").json()["models"][0]["teachable"]
    assert client.post("/v1/models/plate/teach", json=SAID).status_code == 422  # no feedback yet
    for image, truth in ((labelled(2, 1)[0], "good"), (labelled(2, 1)[1], "good"), (spotted(1, 2)[0], "bad")):
        found = client.post("/v1/inspect", files={"image": ("../part.png", png(image))}).json()
        assert found["verdict"] == "bad"
        client.post(f"/v1/inspections/{found['id']}/feedback", json={"truth": truth, "who": "Ada"})

    learnt = client.post("/v1/models/plate/teach", json=SAID)
    assert learnt.status_code == 200, learnt.text
    values = learnt.json()
    assert (values["model"], values["parent"], values["taught"]) == ("plate-taught-1", "plate", 2)
    by_number = {one["id"]: one for one in values["changes"] if one["id"]}
    assert [by_number[n]["verdict_after"] for n in (1, 2, 3)] == ["good", "good", "bad"]
    assert by_number[1]["file"] == "../part.png"
    assert [one["name"] for one in client.get("/v1/models").json()["models"]] == ["plate", "plate-taught-1"]
    another = png(labelled(1, 5)[0])
    new = client.post("/v1/inspect?model=plate-taught-1", content=another).json()
    old = client.post("/v1/inspect", content=another).json()
    assert new["score"] < 0.6 * old["score"]
    metadata = read_metadata(tmp_path / "taught" / "plate-taught-1")
    assert metadata.why == "a new label (Ada)"
    assert metadata.parent is not None
    assert client.post("/v1/models/plate/teach", json=SAID).json()["model"] == "plate-taught-2"
    assert client.post("/v1/models/nut/teach", json=SAID).status_code == 404


def test_one_at_a_time_and_runs_only(
    folder: Path, log: InspectionLog, client_of: Callable[..., Any], tmp_path: Path
) -> None:
    teacher = Teacher(log, tmp_path / "taught", "cpu")
    client = client_of(FolderModel(folder, "cpu"), Brightness("nut"), log=log, teacher=teacher)
    assert [one["teachable"] for one in client.get("/v1/models").json()["models"]] == [True, False]
    answer = client.post("/v1/models/nut/teach", json=SAID)
    assert (answer.status_code, answer.json()["detail"][:21]) == (422, "teach: nut is no run:")
    with teacher._at_work:
        assert client.post("/v1/models/plate/teach", json=SAID).status_code == 409
    assert client.post("/v1/models/plate/teach", json={"who": "", "why": "x"}).status_code == 422
    assert not (tmp_path / "taught").exists()


def test_originals_are_kept_within_bounds(log: InspectionLog, client_of: Callable[..., Any]) -> None:
    client = client_of(Brightness(), log=log)

    def kept() -> set[int]:
        import sqlalchemy

        with log._engine.connect() as connection:
            return set(connection.scalars(sqlalchemy.text("SELECT inspection FROM thfr_originals")))

    for _ in range(8):
        client.post("/v1/inspect", content=encoded(picture()))
    assert kept() == {6, 7, 8}
    for number in (1, 6, 7):  # the first is gone already
        log.say(number, "good", "Ada")
    for _ in range(6):
        client.post("/v1/inspect", content=encoded(picture()))
    assert kept() == {6, 7, 12, 13, 14}
    for number in (12, 13):
        log.say(number, "bad", "Ada")
    assert kept() == {7, 12, 13, 14}  # of those with feedback the last three
    assert [row["id"] for row in log.originals("plate")] == [13, 12, 7]
    assert log.original(13) == encoded(picture())
    assert log.original(6) is None


def test_without_originals_nothing_is_kept(tmp_path: Path, client_of: Callable[..., Any]) -> None:
    log = InspectionLog(f"sqlite:///{tmp_path / 'plain.db'}")
    client = client_of(Brightness(), log=log)
    number = client.post("/v1/inspect", content=encoded(picture())).json()["id"]
    log.say(number, "good", "Ada")
    assert log.originals("plate") == []
