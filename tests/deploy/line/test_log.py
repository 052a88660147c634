"""The inspection log: on SQLite, on a real PostgreSQL, and by HTTP."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from thfr.errors import InputError

from .conftest import Brightness, encoded, open_to_others, picture

pytest.importorskip("sqlalchemy", reason="needs thfr-ext[serve]")

from thfr.deploy.inspections import InspectionLog


def postgres_program(name: str) -> Path | None:
    """A program of PostgreSQL, where Debian puts it or on PATH."""
    beside = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"))
    found = shutil.which(name)
    return beside[-1] if beside else (Path(found) if found else None)


@pytest.fixture(scope="module")
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A server of our own on a Unix socket; its URL."""
    pytest.importorskip("psycopg", reason="no psycopg (pip install psycopg[binary])")
    initdb, server = postgres_program("initdb"), postgres_program("postgres")
    if initdb is None or server is None:
        pytest.skip("no PostgreSQL (apt-get install postgresql)")
    folder = tmp_path_factory.mktemp("pg")
    user: dict[str, Any] = {}
    if os.geteuid() == 0:  # PostgreSQL refuses to run as root
        user = {"user": "nobody", "group": "nogroup", "cwd": "/"}
        open_to_others(folder)
        shutil.chown(folder, "nobody")
    made = subprocess.run(
        [initdb, "-D", folder / "data", "-A", "trust", "-U", "thfr", "-N", "-E", "UTF8", "--locale=C.UTF-8"],
        capture_output=True, text=True, **user,
    )  # fmt: skip
    if made.returncode:
        pytest.skip(f"initdb fails here: {made.stderr.strip()[:300]}")
    process = subprocess.Popen(
        [server, "-D", folder / "data", "-k", folder, "-c", "listen_addresses=", "-c", "fsync=off"],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, **user,
    )  # fmt: skip
    url = f"postgresql+psycopg://thfr@/postgres?host={folder}"
    for _ in range(100):
        try:
            InspectionLog(url).close()
            break
        except InputError:
            threading.Event().wait(0.1)
    yield url
    process.terminate()
    process.wait(30)


@pytest.fixture(params=["sqlite", "postgres"])
def log(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[InspectionLog]:
    url = f"sqlite:///{tmp_path / 'line.db'}"
    if request.param == "postgres":
        url = request.getfixturevalue("postgres")
        import sqlalchemy

        engine = sqlalchemy.create_engine(url)
        with engine.begin() as connection:
            connection.execute(
                sqlalchemy.text("TRUNCATE thfr_inspections, thfr_thresholds RESTART IDENTITY CASCADE")
            )
        engine.dispose()
    opened = InspectionLog(url, jsonl=tmp_path / "line.jsonl", pictures=2)
    yield opened
    opened.close()


def entry(**changes: Any) -> dict[str, Any]:
    plain = {
        "model": "plate", "file": "a.png", "sha256": "0" * 64, "score": 0.25, "verdict": "good",
        "threshold": 0.5, "findings": [], "height": 4, "width": 5, "ms": 1.5,
    }  # fmt: skip
    return {**plain, **changes}


def test_history(log: InspectionLog, tmp_path: Path) -> None:
    log.add(entry())
    log.add(entry(file="100%_b.PNG", verdict="bad", score=0.75, findings=[{"x": 1}]))
    log.add(entry(model="nut", file=None, verdict=None, threshold=None))
    assert [row["id"] for row in log.search()] == [3, 2, 1]
    row = log.search(verdict="bad")[0]
    assert {key: row[key] for key in entry()} == entry(
        file="100%_b.PNG", verdict="bad", score=0.75, findings=[{"x": 1}]
    )
    assert row["truth"] is None
    assert [row["id"] for row in log.search(model="nut")] == [3]
    assert [row["id"] for row in log.search(text=".png")] == [2, 1]
    assert [row["id"] for row in log.search(text="%_")] == [2]  # no wildcards
    assert [row["id"] for row in log.search(before=3, limit=1)] == [2]
    assert [row["id"] for row in log.search(after=2)] == [3]
    lines = [json.loads(line) for line in (tmp_path / "line.jsonl").read_text().splitlines()]
    assert [(line["id"], line["file"]) for line in lines] == [(1, "a.png"), (2, "100%_b.PNG"), (3, None)]


def test_the_last_pictures_are_kept(log: InspectionLog) -> None:
    for number in range(4):
        log.add(entry(), bytes([number]))
    assert [log.picture(number) for number in range(1, 6)] == [None, None, b"\2", b"\3", None]


def test_the_last_word_counts(log: InspectionLog) -> None:
    for score in (0.1, 0.2, 0.3):
        log.add(entry(score=score))
    assert log.say(1, "bad", "Ada")
    assert log.say(1, "good", "Ben")
    assert log.say(3, "bad", "Ada")
    assert not log.say(4, "bad", "Ada")
    assert [row["truth"] for row in log.search()] == ["bad", None, "good"]
    assert [row["id"] for row in log.search(truth="good")] == [1]
    assert log.scores("plate") == {"good": [0.1], "bad": [0.3], "unknown": [0.2]}
    assert log.scores("nut") == {"good": [], "bad": [], "unknown": []}


def test_thresholds(log: InspectionLog) -> None:
    log.set_threshold("plate", 0.4, "Ada", "too many false alarms")
    log.set_threshold("plate", 0.6, "Ben", "a missed scratch")
    first, second = log.thresholds("plate")
    assert (first["value"], first["who"], first["why"]) == (0.6, "Ben", "a missed scratch")
    assert second["time"] <= first["time"]
    assert log.thresholds("nut") == []


def test_many_threads_write_at_once(log: InspectionLog, tmp_path: Path) -> None:
    threads = [threading.Thread(target=lambda: [log.add(entry()) for _ in range(10)]) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(row["id"] for row in log.search(limit=100)) == list(range(1, 61))
    assert len((tmp_path / "line.jsonl").read_text().splitlines()) == 60


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("nonsense", "the URL"),
        ("sqlite:////no/such/folder/x.db", "x.db"),
        ("postgresql+psycopg://ada:secret@127.0.0.1:1/x?connect_timeout=2", "127.0.0.1"),
    ],
)
def test_a_database_that_cannot_be_opened(url: str, shown: str) -> None:
    with pytest.raises(InputError, match=f"InspectionLog: cannot open .*{shown}") as caught:
        InspectionLog(url)
    assert "secret" not in str(caught.value)


def test_by_http(tmp_path: Path, client_of: Callable[..., Any]) -> None:
    url = f"sqlite:///{tmp_path / 'line.db'}"
    client = client_of(Brightness(), log=InspectionLog(url))
    for name, spot in (("bad 1.png", 255), ("good.png", 20), ("bad 2.png", 200)):
        files = {"image": (name, encoded(picture(spot=spot)))}
        assert client.post("/v1/inspect", files=files).json()["id"] is not None
    page = client.get("/v1/inspections?text=bad&limit=1").json()
    assert ([row["file"] for row in page["inspections"]], page["next"]) == (["bad 2.png"], 3)
    page = client.get("/v1/inspections?text=bad&limit=1&before=3").json()
    assert ([row["file"] for row in page["inspections"]], page["next"]) == (["bad 1.png"], None)
    assert page["inspections"][0]["findings"][0]["area"] == 64
    shown = client.get("/v1/inspections/1/picture")
    assert (shown.headers["content-type"], shown.content[:4]) == ("image/png", b"\x89PNG")
    assert client.get("/v1/inspections/9/picture").status_code == 404

    say = {"truth": "good", "who": "Ada"}
    assert client.post("/v1/inspections/3/feedback", json=say).status_code == 204
    assert client.post("/v1/inspections/9/feedback", json=say).status_code == 404
    assert client.post("/v1/inspections/3/feedback", json={"truth": "maybe", "who": "A"}).status_code == 422
    scores = client.get("/v1/models/plate/scores").json()
    assert (scores["good"], scores["threshold"], len(scores["calibration"])) == (
        [pytest.approx(200 / 255)], 0.5, 5,
    )  # fmt: skip

    new = {"value": 0.9, "who": "Ada", "why": "a false alarm"}
    assert client.post("/v1/models/plate/threshold", json=new).status_code == 204
    assert client.post("/v1/models/none/threshold", json=new).status_code == 404
    assert client.post("/v1/models/plate/threshold", json={**new, "why": " "}).status_code == 422
    again = client.post("/v1/inspect", content=encoded(picture(spot=200))).json()
    assert (again["threshold"], again["verdict"]) == (0.9, "good")
    restarted = client_of(Brightness(), log=InspectionLog(url))
    (shown,) = restarted.get("/v1/models").json()["models"]
    assert (shown["threshold"], shown["threshold_source"]) == (0.9, "by hand")


def test_a_log_that_fails_does_not_stop_the_line(tmp_path: Path, client_of: Callable[..., Any]) -> None:
    log = InspectionLog(f"sqlite:///{tmp_path / 'line.db'}", jsonl=tmp_path)  # a folder is no file
    client = client_of(Brightness(), log=log)
    found = client.post("/v1/inspect", content=encoded(picture(spot=255))).json()
    assert (found["verdict"], found["id"]) == ("bad", None)
    assert "thfr_log_errors_total 1.0" in client.get("/metrics").text
