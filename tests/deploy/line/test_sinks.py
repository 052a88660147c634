"""Results to a webhook and to a real MQTT broker: retried, in order, and never lost without a trace."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from thfr.deploy.sinks.mqtt import Mqtt
from thfr.deploy.sinks.sender import Retries, Sender
from thfr.deploy.sinks.webhook import Webhook
from thfr.deploy.watch.journal import Journal
from thfr.deploy.watch.watcher import Watcher, WatchSettings
from thfr.errors import InputError

from .conftest import Brightness, encoded, open_to_others, picture

QUICK = Retries(attempts=3, pause=0.01, longest=0.05)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def until(found: Callable[[], bool], what: str) -> None:
    for _ in range(1000):
        if found():
            return
        time.sleep(0.01)
    raise AssertionError(f"it did not happen: {what}")


class Receiver:
    """An HTTP server that answers with the statuses it was given, in turn, then with 200."""

    def __init__(self, port: int = 0) -> None:
        self.statuses: list[int] = []
        self.taken: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                status = receiver.statuses.pop(0) if receiver.statuses else 200
                if status == 200:
                    receiver.taken.append(json.loads(body))
                receiver.headers.append(dict(self.headers))
                self.send_response(status)
                if status == 302:
                    self.send_header("Location", "/elsewhere")
                self.send_header("Content-Length", "0")
                self.end_headers()

            def do_GET(self) -> None:
                raise AssertionError("a redirect was followed")

            def log_message(self, *_: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
        self.port = self._server.server_address[1]
        self.url = f"http://127.0.0.1:{self.port}/hook?key=secret"
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    made = Receiver()
    yield made
    made.close()


def letters(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def test_rows_arrive_in_order_whatever_happens_in_between(receiver: Receiver, tmp_path: Path) -> None:
    receiver.statuses = [500, 429, 200, 503]
    outcomes: list[str] = []
    sender = Sender(Webhook(receiver.url, "token"), tmp_path / "dead", QUICK, told=outcomes.append)
    for number in range(5):
        sender.put({"id": number})
    until(lambda: sender.finished == 5, "delivery")
    sender.close()
    assert [row["id"] for row in receiver.taken] == [0, 1, 2, 3, 4]
    assert outcomes == ["delivered"] * 5
    assert receiver.headers[0]["Authorization"] == "Bearer token"
    assert receiver.headers[0]["Content-Type"] == "application/json"
    assert letters(tmp_path / "dead") == []


@pytest.mark.parametrize(("status", "times"), [(400, 1), (404, 1), (302, 1), (500, 3)])
def test_what_nobody_takes_is_written_down(
    receiver: Receiver, tmp_path: Path, status: int, times: int
) -> None:
    receiver.statuses = [status] * times
    sender = Sender(Webhook(receiver.url), tmp_path / "dead", QUICK)
    sender.put({"id": 1})
    sender.put({"id": 2})
    until(lambda: sender.finished == 2, "delivery")
    sender.close()
    assert [row["id"] for row in receiver.taken] == [2]
    (letter,) = letters(tmp_path / "dead")
    assert letter["row"] == {"id": 1}
    assert f"status {status}" in letter["error"]
    assert letter["sink"] == f"webhook http://127.0.0.1:{receiver.port}/hook"  # without the key


def test_a_receiver_that_is_away_is_waited_for(tmp_path: Path) -> None:
    port = free_port()
    sender = Sender(Webhook(f"http://127.0.0.1:{port}/"), tmp_path / "dead", QUICK, capacity=2)
    for number in range(4):  # two fit
        sender.put({"id": number})
    assert [letter["row"]["id"] for letter in letters(tmp_path / "dead")] == [2, 3]
    time.sleep(0.3)  # many more attempts than three
    back = Receiver(port)
    until(lambda: sender.finished == 2, "delivery")
    sender.close()
    back.close()
    assert [row["id"] for row in back.taken] == [0, 1]


def test_at_the_end_what_is_left_is_buried(tmp_path: Path) -> None:
    sender = Sender(Webhook(f"http://127.0.0.1:{free_port()}/"), tmp_path / "dead", Retries())
    sender.put({"id": 1})
    started = time.monotonic()
    sender.close(patience=0.2)
    assert time.monotonic() - started < 3
    (letter,) = letters(tmp_path / "dead")
    assert letter["error"] == "closed before the receiver was back"


@pytest.mark.parametrize("url", ["ftp://host/", "http://", "nonsense", "http://ada:secret@host/"])
def test_wrong_webhooks(url: str) -> None:
    with pytest.raises(InputError, match=r"--webhook: expected http\(s\)://HOST") as caught:
        Webhook(url)
    assert "secret" not in str(caught.value)


def test_serve_sends_and_counts(receiver: Receiver, client_of: Callable[..., Any], tmp_path: Path) -> None:
    sender = Sender(Webhook(receiver.url), tmp_path / "dead", QUICK)
    client = client_of(Brightness(), senders=[sender])
    answer = client.post("/v1/inspect", content=encoded(picture(spot=255))).json()
    until(lambda: len(receiver.taken) == 1, "delivery")
    (row,) = receiver.taken
    assert (row["model"], row["score"], row["verdict"]) == ("plate", answer["score"], "bad")
    assert row["findings"] == answer["findings"]
    assert len(row["sha256"]) == 64
    until(lambda: 'outcome="delivered"' in client.get("/metrics").text, "metrics")
    assert "secret" not in client.get("/metrics").text


def watcher_of(camera: Path, out: Path, url: str) -> Watcher:
    sender = Sender(Webhook(url), out / "dead", QUICK)
    return Watcher(Brightness(), camera, out, WatchSettings(settle=0.0, interval=0.01), senders=[sender])


def test_watch_sends_after_a_restart_what_was_not_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from thfr.deploy.watch import recorder as module

    monkeypatch.setattr(module, "_PATIENCE", 0.1)
    camera, out, port = tmp_path / "camera", tmp_path / "out", free_port()
    camera.mkdir()
    url = f"http://127.0.0.1:{port}/"
    for name in ("a.png", "b.png"):
        (camera / name).write_bytes(encoded(picture(spot=255)))
    out.mkdir()
    first = watcher_of(camera, out, url)
    first.run(once=True)
    assert first.close() == 2  # nobody was there
    receiver = Receiver(port)
    (camera / "c.png").write_bytes(encoded(picture()))
    second = watcher_of(camera, out, url)
    second.run(once=True)
    until(lambda: len(receiver.taken) == 3, "delivery")
    assert second.close() == 0
    third = watcher_of(camera, out, url)
    third.run(once=True)
    assert third.close() == 0
    receiver.close()
    assert [(row["id"], row["file"], row["model"]) for row in receiver.taken] == [
        (1, "a.png", "plate"), (2, "b.png", "plate"), (3, "c.png", "plate"),
    ]  # fmt: skip
    assert letters(out / "dead") == []


def test_a_new_sink_begins_behind_what_is_there(tmp_path: Path) -> None:
    from thfr.deploy.watch.journal import Arrival

    journal = Journal(tmp_path)
    journal.add(Arrival("a.png", 1, 1), {"score": 1.0}, None)
    assert journal.delivered("new") == 1
    journal.add(Arrival("b.png", 1, 1), {"score": 1.0}, None)
    assert journal.delivered("new") == 1
    assert [row["file"] for row in journal.rows(1, 5)] == ["b.png"]
    journal.close()


# --- MQTT --------------------------------------------------------------------------------------------------


class Broker:
    """A real mosquitto, with a user."""

    def __init__(self, folder: Path) -> None:
        self.program, self.port, self.folder = shutil.which("mosquitto"), free_port(), folder
        if self.program is None and Path("/usr/sbin/mosquitto").exists():
            self.program = "/usr/sbin/mosquitto"
        if self.program is None:
            pytest.skip("no mosquitto (apt-get install mosquitto)")
        pytest.importorskip("paho.mqtt", reason="needs thfr-ext[mqtt]")
        passwords = folder / "passwords"
        tool = shutil.which("mosquitto_passwd") or "mosquitto_passwd"
        subprocess.run([tool, "-b", "-c", passwords, "ada", "right"], check=True, capture_output=True)
        passwords.chmod(0o644)  # it reads them as another user
        open_to_others(folder)
        (folder / "conf").write_text(
            f"listener {self.port} 127.0.0.1\nallow_anonymous false\npassword_file {passwords}\n"
        )
        self.start()

    def start(self) -> None:
        self.process = subprocess.Popen(
            [str(self.program), "-c", self.folder / "conf"], stderr=subprocess.DEVNULL
        )
        until(self._listens, "mosquitto")

    def _listens(self) -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait(10)


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Broker]:
    made = Broker(tmp_path)
    yield made
    made.stop()


class Subscriber:
    """Reads a topic."""

    def __init__(self, broker: Broker, topic: str) -> None:
        from paho.mqtt import client as paho

        self.taken: list[dict[str, Any]] = []
        self.ready = False
        self.client = paho.Client(paho.CallbackAPIVersion.VERSION2)
        self.client.username_pw_set("ada", "right")
        self.client.reconnect_delay_set(1, 1)
        self.client.on_connect = lambda client, *_: client.subscribe(topic, 1)
        self.client.on_disconnect = lambda *_: setattr(self, "ready", False)
        self.client.on_subscribe = lambda *_: setattr(self, "ready", True)
        self.client.on_message = lambda _, __, message: self.taken.append(json.loads(message.payload))
        self.client.connect("127.0.0.1", broker.port)
        self.client.loop_start()
        until(lambda: self.ready, "subscription")

    def close(self) -> None:
        self.client.disconnect()
        self.client.loop_stop()


def test_mqtt_also_over_a_broker_that_restarts(broker: Broker, tmp_path: Path) -> None:
    subscriber = Subscriber(broker, "line/1/#")
    url = f"mqtt://ada@127.0.0.1:{broker.port}/line/1/results"
    sender = Sender(Mqtt(url, "right"), tmp_path / "dead", QUICK)
    sender.put({"id": 1, "verdict": "bad"})
    until(lambda: len(subscriber.taken) == 1, "first message")
    broker.stop()
    sender.put({"id": 2})
    time.sleep(0.1)
    assert sender.finished == 1
    broker.start()
    until(lambda: sender.finished == 2, "the message after the restart")
    sender.put({"id": 3})
    until(lambda: sender.finished == 3 and subscriber.ready, "the next one")
    sender.close()
    until(lambda: {3} <= {row["id"] for row in subscriber.taken} or not subscriber.ready, "reception")
    subscriber.close()
    assert subscriber.taken[0] == {"id": 1, "verdict": "bad"}
    assert letters(tmp_path / "dead") == []


def test_mqtt_with_the_wrong_password(broker: Broker, tmp_path: Path) -> None:
    from thfr.deploy.sinks import mqtt as module

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "_SECONDS", 0.3)
        sink = Mqtt(f"mqtt://ada@127.0.0.1:{broker.port}/x", "wrong")
        with pytest.raises(ConnectionError, match=r"(?i)not authori[sz]ed"):
            sink.deliver(b"{}")
        sink.close()


@pytest.mark.parametrize(
    "url", ["http://host/x", "mqtt://host", "mqtt://host/", "mqtt://host/a/#", "mqtt://a:secret@host/x", "x"]
)
def test_wrong_mqtt(url: str) -> None:
    pytest.importorskip("paho.mqtt", reason="needs thfr-ext[mqtt]")
    with pytest.raises(InputError, match=r"--mqtt: expected") as caught:
        Mqtt(url)
    assert "secret" not in str(caught.value)
