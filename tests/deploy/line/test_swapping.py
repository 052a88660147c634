"""Another run in a model's place: nothing taken is lost, and one that cannot be used changes nothing."""

from __future__ import annotations

import shutil
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from support.images import products, write_images
from support.methods import small_config
from thfr.data import load_dataset
from thfr.runs.threshold import Threshold
from thfr.training import train

from .conftest import Brightness, encoded, picture

pytest.importorskip("sqlalchemy", reason="needs thfr-ext[serve]")
pytest.importorskip("fastapi", reason="needs thfr-ext[serve]")

from thfr.deploy.inspections import InspectionLog
from thfr.deploy.serve.swapping import Swapper

SAID = {"who": "Ada", "why": "a new label"}


def test_what_the_old_one_has_taken_it_answers(client_of: Callable[..., Any]) -> None:
    old, new = Brightness(), Brightness("plate-2", Threshold.from_scores([2.0], 0.5, "images"))
    client = client_of(old)
    inspector = client.app.state.inspector
    answers: dict[str, Any] = {}

    def ask(key: str) -> threading.Thread:
        def post() -> None:
            answers[key] = client.post("/v1/inspect", content=encoded(picture(spot=255))).json()

        thread = threading.Thread(target=post)
        thread.start()
        return thread

    old.gate.clear()
    first = ask("old")
    while not inspector.workers["plate"].model.batches and inspector.workers["plate"].depth == 0:
        time.sleep(0.005)
    swapping = threading.Thread(target=inspector.put, args=("plate", new))
    swapping.start()
    while inspector.workers["plate"].model is old:
        time.sleep(0.005)
    ask("new").join()
    assert (answers["new"]["verdict"], answers["new"]["threshold"], new.batches) == ("good", 2.0, [1])
    assert "old" not in answers
    old.gate.set()
    first.join()
    swapping.join()
    assert (answers["old"]["verdict"], answers["old"]["threshold"]) == ("bad", 0.5)
    assert answers["old"]["model"] == answers["new"]["model"] == "plate"
    assert client.get("/v1/models").json()["models"][0]["run"] == "plate-2"


def test_requests_never_fail_while_models_change(client_of: Callable[..., Any]) -> None:
    client = client_of(Brightness())
    statuses: list[int] = []

    def ask() -> None:
        for _ in range(25):
            statuses.append(client.post("/v1/inspect", content=encoded(picture())).status_code)

    threads = [threading.Thread(target=ask) for _ in range(3)]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        client.app.state.inspector.put("plate", Brightness())
    assert statuses == [200] * 75


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("swapped")
    write_images(root / "good", products(10, 0))
    data = load_dataset("folder", root / "good")
    train(small_config("padim", holdout=0.4), data, root / "plate", progress=False, device="cpu")
    return root / "plate"


@pytest.fixture
def log(tmp_path: Path) -> Iterator[InspectionLog]:
    opened = InspectionLog(f"sqlite:///{tmp_path / 'line.db'}")
    yield opened
    opened.close()


def test_swap_back_reload_and_restart(
    run: Path, log: InspectionLog, client_of: Callable[..., Any], tmp_path: Path
) -> None:
    taught = tmp_path / "taught"
    shutil.copytree(run, taught / "plate-taught-1")
    Threshold.from_scores([77.0], 0.5, "images").save(taught / "plate-taught-1")
    shutil.copytree(run, taught / "broken")
    (taught / "broken" / "model.safetensors").write_bytes(b"half")
    swapper = Swapper({"plate": run}, taught, log, "cpu")
    models = swapper.models()
    client = client_of(models["plate"], log=log, swapper=swapper)
    own = client.get("/v1/models").json()["models"][0]["threshold"]
    client.post("/v1/models/plate/threshold", json={"value": 5.0, **SAID})
    client.post("/v1/inspect", content=encoded(picture()))

    def post(run_name: str | None, model: str = "plate") -> Any:
        return client.post(f"/v1/models/{model}/swap", json={"run": run_name, **SAID})

    def now() -> tuple[str, float]:
        (one,) = client.get("/v1/models").json()["models"]
        return one["run"], one["threshold"]

    for wrong in ("broken", "absent", "../plate", str(run)):
        answer = post(wrong)
        assert answer.status_code == 422, answer.text
        assert now() == ("plate", 5.0)  # the threshold set by hand
    assert post("plate", "nut").status_code == 404

    client.app.state.inspector.put("plate-taught-1", models["plate"])  # as teaching does
    done = post("plate-taught-1").json()
    assert done == {"model": "plate", "run": "plate-taught-1", "before": "plate"}
    assert now() == ("plate-taught-1", 77.0)  # of its own, and it is not served beside any more
    scores = client.get("/v1/models/plate/scores").json()
    assert (scores["unknown"], scores["history"]) == ([], [])  # those of the other run are not mixed in
    assert client.post("/v1/inspect", content=encoded(picture())).json()["model"] == "plate"
    assert post(None).json()["run"] == "plate-taught-1"

    again = Swapper({"plate": run}, taught, log, "cpu")
    assert again.models()["plate"].name == "plate-taught-1"
    shutil.rmtree(taught / "plate-taught-1")
    assert Swapper({"plate": run}, taught, log, "cpu").models()["plate"].name == "plate"
    assert post(None).status_code == 422  # it is gone: what answers stays
    assert now() == ("plate-taught-1", 77.0)
    assert post("plate").json()["before"] == "plate-taught-1"
    assert now() == ("plate", 5.0)
    assert own != 5.0


def test_a_link_that_points_elsewhere_is_followed(
    run: Path, client_of: Callable[..., Any], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    from thfr.deploy.model import named

    shutil.copytree(run, tmp_path / "plate-2")
    link = tmp_path / "current"
    link.symlink_to(run)
    folders = named("serve", [link])
    swapper = Swapper(folders, device="cpu")
    client = client_of(*swapper.models().values(), names=list(folders), swapper=swapper)
    link.unlink()
    link.symlink_to(tmp_path / "plate-2")
    swapper.reload(client.app.state.inspector)
    (one,) = client.get("/v1/models").json()["models"]
    assert (one["name"], one["run"]) == ("current", "plate-2")
    (tmp_path / "plate-2" / "config.yaml").write_text("no: run")
    swapper.reload(client.app.state.inspector)
    assert "current could not be read anew and answers as before" in caplog.text
    assert client.post("/v1/inspect", content=encoded(picture())).status_code == 200
