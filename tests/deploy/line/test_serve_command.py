"""``thfr serve`` as a process: a real run, real sockets, a real SIGTERM."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from thfr.cli import main
from thfr.io import read_image

httpx = pytest.importorskip("httpx", reason="no httpx (pip install httpx)")
pytest.importorskip("fastapi", reason="needs thfr-ext[serve]")


@contextmanager
def serving(*arguments: Any) -> Iterator[tuple[subprocess.Popen[str], str]]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "thfr", "serve", *map(str, arguments), "--port", str(port)]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    url = f"http://127.0.0.1:{port}"
    try:
        for _ in range(600):
            try:
                httpx.get(f"{url}/healthz", timeout=5)
                break
            except httpx.TransportError:
                assert process.poll() is None, process.communicate()[1]
                time.sleep(0.1)
        yield process, url
    finally:
        process.kill()
        process.communicate()


@pytest.mark.slow
def test_a_model_is_served_and_shuts_down_in_order(exported: Path, plates: Path, tmp_path: Path) -> None:
    """An exported one, which starts without torch."""
    from thfr.deploy.exported import load

    images = sorted((plates / "plate" / "test").rglob("*.png"))
    log = tmp_path / "line.db"
    with serving(exported, "--device", "cpu", "--log", log, "--batch-wait", 300) as (process, url):
        model = load(exported)
        wanted = model.score([read_image(image) for image in images]).scores
        for image, score in zip(images, wanted, strict=True):
            found = httpx.post(f"{url}/v1/inspect", content=image.read_bytes(), timeout=60).json()
            assert found["model"] == exported.name
            assert found["score"] == pytest.approx(float(score), rel=1e-3)
            assert found["verdict"] == model.threshold.verdict(found["score"])

        process.send_signal(signal.SIGHUP)
        assert process.stderr is not None
        assert any("read anew" in line for line in iter(process.stderr.readline, ""))
        answers: list[int] = []

        def ask() -> None:
            answers.append(
                httpx.post(f"{url}/v1/inspect", content=images[0].read_bytes(), timeout=60).status_code
            )

        threads = [threading.Thread(target=ask) for _ in range(4)]
        for thread in threads:
            thread.start()
        while httpx.get(f"{url}/v1/models").json()["models"][0]["waiting"] < 4:
            time.sleep(0.01)
        process.send_signal(signal.SIGTERM)  # while they wait for a batch
        for thread in threads:
            thread.join()
        assert answers == [200] * 4
        _, complaints = process.communicate(timeout=60)
        assert process.returncode in (0, -signal.SIGTERM), complaints
        assert "Traceback" not in complaints

    from thfr.deploy.inspections import InspectionLog

    written = InspectionLog(f"sqlite:///{log}")
    assert len(written.search()) == len(images) + 4
    written.close()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--host", "0.0.0.0"], "expected --token-file too"),
        (["--jsonl", "x.jsonl"], "expected --log too"),
        (["--log", "nonsense://x"], "InspectionLog: cannot open"),
    ],
)
def test_wrong_usage(
    run_folder: Path, arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["serve", str(run_folder), "--device", "cpu", *arguments]) == 2
    assert message in capsys.readouterr().err


def test_two_runs_of_one_name(run_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["serve", str(run_folder), str(run_folder), "--device", "cpu"]) == 2
    assert "expected runs of different names, got run twice" in capsys.readouterr().err


@pytest.mark.parametrize("token", ["short", "with a space in it all", "x" * 16 + "é", ""])
def test_unfit_tokens(
    run_folder: Path, tmp_path: Path, token: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "token.txt"
    path.write_text(token, encoding="utf-8")
    arguments = ["--host", "0.0.0.0", "--token-file", str(path)]
    assert main(["serve", str(run_folder), "--device", "cpu", *arguments]) == 2
    assert "--token-file: expected one line of at least 16" in capsys.readouterr().err


def test_without_the_extra_it_says_what_to_install(
    run_folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "fastapi", None)
    assert main(["serve", str(run_folder)]) == 2
    assert capsys.readouterr().err == "thfr serve: error: needs fastapi: pip install thfr-ext[serve]\n"


def test_which_hosts_are_this_machine() -> None:
    from thfr.deploy.serve.running import is_loopback

    assert all(map(is_loopback, ("127.0.0.1", "127.9.9.9", "localhost", "::1")))
    assert not any(map(is_loopback, ("0.0.0.0", "::", "192.168.1.4", "example.org", "")))
