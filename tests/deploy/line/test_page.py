"""The page in a browser: it shows, searches, takes feedback and sets the threshold; nothing complains."""

from __future__ import annotations

import re
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from .conftest import Brightness, encoded, picture

httpx = pytest.importorskip("httpx", reason="no httpx (pip install httpx)")
pytest.importorskip("fastapi", reason="needs thfr-ext[serve]")

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")
HAND = """
;(async () => {
  const until = async (found, what) => {
    for (let i = 0; i < 400; i++) { if (found()) return; await new Promise((done) => setTimeout(done, 25)); }
    throw new Error(`it did not happen: ${what}`);
  };
  const type = (id, value) => { at(id).value = value;
    for (const kind of ["input", "change"]) at(id).dispatchEvent(new Event(kind, { bubbles: true })); };
  const cards = () => document.querySelectorAll("article").length;
  try { %s; document.title = "done"; } catch (error) { document.title = `failed: ${error.message}`; }
})();
"""


@pytest.fixture(scope="module")
def browser() -> str:
    found = next(filter(None, map(shutil.which, BROWSERS)), None)
    if found is None:
        pytest.skip(f"no browser on PATH: {', '.join(BROWSERS)} (apt-get install chromium)")
    return found


class Site:
    """The service on a real port, whose page has a hand: a script that uses the controls."""

    def __init__(self, url: str, app: Any) -> None:
        self.url, self._app, self.hand = url, app, ""

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http" and scope["path"] == "/page.js" and self.hand:
            from starlette.responses import Response
            from thfr.deploy.serve import page

            script = (Path(page.__file__).parent / "page.js").read_text() + HAND % self.hand
            await Response(script, media_type="text/javascript")(scope, receive, send)
        else:
            await self._app(scope, receive, send)


@pytest.fixture
def site_of(tmp_path: Path) -> Iterator[Callable[..., Site]]:
    import uvicorn
    from thfr.deploy.inspections import InspectionLog
    from thfr.deploy.serve.app import create_app
    from thfr.deploy.serve.settings import Settings
    from thfr.deploy.serve.swapping import Swapper
    from thfr.deploy.serve.teaching import Teacher

    running = []

    def start(log: bool = True, models: Any = (), teach_to: Path | None = None, **settings: Any) -> Site:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        opened = InspectionLog(f"sqlite:///{tmp_path / 'line.db'}", originals=9) if log else None
        served = {model.name: model for model in models or map(Brightness, ("plate", "nut"))}
        teacher = Teacher(opened, teach_to, "cpu") if opened and teach_to else None
        folders = {name: model.folder for name, model in served.items() if teach_to}
        swapper = Swapper(folders, teach_to, opened, "cpu")
        app = create_app(served, Settings(**settings), opened, teacher=teacher, swapper=swapper)
        site = Site(f"http://127.0.0.1:{port}", app)
        server = uvicorn.Server(uvicorn.Config(site, port=port, log_level="warning"))
        thread = threading.Thread(target=server.run)
        thread.start()
        while not server.started:
            time.sleep(0.02)
        running.append((server, thread))
        return site

    yield start
    for server, thread in running:
        server.should_exit = server.force_exit = True
        thread.join()


def send(site: Site, *spots: int) -> None:
    for spot in spots:
        files = {"image": (f"part <b>{spot}</b>.png", encoded(picture(60, 90, spot)))}
        httpx.post(f"{site.url}/v1/inspect", files=files, timeout=60).raise_for_status()


def chromium(browser: str, folder: Path, *arguments: str) -> str:
    done = subprocess.run(
        [
            browser, "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage",
            "--enable-logging=stderr", "--virtual-time-budget=12000",
            f"--user-data-dir={folder / 'profile'}", *arguments,
        ],
        capture_output=True, text=True, timeout=200, check=True,
    )  # fmt: skip
    assert "CONSOLE" not in done.stderr, done.stderr
    return done.stdout


def used(browser: str, folder: Path, site: Site, hand: str) -> str:
    """The document after the hand has done its work."""
    site.hand = hand
    document = chromium(browser, folder, "--dump-dom", f"{site.url}/")
    assert "<title>done</title>" in document, re.findall("<title>.*?</title>", document)
    return document


@pytest.mark.slow
def test_feed_search_and_feedback(browser: str, tmp_path: Path, site_of: Callable[..., Site]) -> None:
    site = site_of()
    send(site, 20, 255, 200)
    document = used(
        browser,
        tmp_path,
        site,
        """
        await until(() => cards() === 3, "three cards");
        await until(() => document.querySelectorAll("figure i").length === 2, "two boxes");
        type("verdict", "bad");
        await until(() => cards() === 2, "two bad ones");
        type("text", "B>255");
        await until(() => cards() === 1, "one by its name");
        document.querySelector("[data-truth=good]").click();
        await until(() => scores.good.length === 1, "feedback");
        type("text", "no such");
        await until(() => cards() === 0 && !at("empty").hidden, "none");
        type("text", ""); type("verdict", ""); type("truth", "good");
        await until(() => cards() === 1, "one that was good")
        """,
    )
    assert "part &lt;b&gt;255&lt;/b&gt;.png" in document  # a name is text, never HTML
    assert 'aria-pressed="true"' in document
    assert "False alarms: 1 of 6 good · misses: 0 of 0 bad" in document
    (said,) = httpx.get(f"{site.url}/v1/inspections?truth=good").json()["inspections"]
    assert said["file"] == "part <b>255</b>.png"


@pytest.mark.slow
def test_the_threshold_is_a_slider(browser: str, tmp_path: Path, site_of: Callable[..., Site]) -> None:
    site = site_of()
    send(site, 20, 200, 255)
    for number, truth in ((1, "bad"), (2, "good"), (3, "bad")):
        httpx.post(f"{site.url}/v1/inspections/{number}/feedback", json={"truth": truth, "who": "Ada"})
    document = used(
        browser,
        tmp_path,
        site,
        """
        await until(() => !at("limits").hidden, "histogram");
        if (!at("errors").textContent.startsWith("False alarms: 1 of 6 good · misses: 1 of 2"))
          throw new Error(at("errors").textContent);
        type("slider", 900);
        if (!at("errors").textContent.startsWith("False alarms: 0 of 6 good · misses: 1 of 2"))
          throw new Error(at("errors").textContent);
        type("who", "Ben"); type("why", "a false alarm");
        document.querySelector("#save button").click();
        await until(() => at("saved").textContent.startsWith("Saved"), "saving")
        """,
    )
    assert re.search(r"by Ben, .*: a false alarm", document)
    model = httpx.get(f"{site.url}/v1/models").json()["models"][0]
    assert 200 / 255 < model["threshold"] < 1


@pytest.mark.slow
def test_images_are_sent_and_a_token_is_asked_for(
    browser: str, tmp_path: Path, site_of: Callable[..., Site]
) -> None:
    site = site_of(token="a-long-secret-token")
    used(
        browser,
        tmp_path,
        site,
        """
        await until(() => !at("login").hidden, "login");
        type("token", "a-long-secret-token");
        document.querySelector("#login button").click();
        await until(() => !at("work").hidden && !at("history").hidden, "entry");
        const canvas = document.createElement("canvas");
        canvas.width = canvas.height = 32;
        const blob = await new Promise((done) => canvas.toBlob(done, "image/png"));
        await upload([new File([blob], "drawn.png"), new File(["nothing"], "text.png")]);
        await until(() => cards() === 1, "its card");
        const lines = [...document.querySelectorAll("#uploads li")].map((line) => line.textContent);
        if (!lines[1].startsWith("drawn.png: good") || !lines[0].includes("expected PNG, JPEG"))
          throw new Error(lines.join());
        const file = (given) => ({ isFile: true, file: (done) => done(given) });
        const folder = (...inside) => ({ isFile: false, isDirectory: true,
          createReader: () => ({ readEntries: (done) => done(inside.splice(0, 2)) }) });
        const image = (name) => file(new File([blob], name, { type: "image/png" }));
        const images = ["1.png", "2.png", "3.png"].map(image);
        await upload(await filesOf([folder(...images, folder(file(new File(["x"], "notes.txt"))))]));
        await until(() => cards() === 4, "the images of a folder")
        """,
    )


@pytest.mark.slow
def test_without_a_log_it_says_so(browser: str, tmp_path: Path, site_of: Callable[..., Site]) -> None:
    # the browser itself notes the 404 by which the page learns of it
    site = site_of(log=False)
    document = used(
        browser, tmp_path, site, """await until(() => at("state").textContent.includes("--log"))"""
    )
    assert re.search(r'<section id="history"[^>]* hidden', document)


@pytest.mark.slow
def test_teaching(browser: str, tmp_path: Path, site_of: Callable[..., Site]) -> None:
    from support.images import products, spotted, write_images
    from support.methods import small_config
    from thfr.data import load_dataset
    from thfr.deploy.model import FolderModel
    from thfr.training import train

    write_images(tmp_path / "good", products(8, 0))
    config, data = small_config("padim", holdout=0.4), load_dataset("folder", tmp_path / "good")
    train(config, data, tmp_path / "cap", progress=False, device="cpu")
    site = site_of(models=[FolderModel(tmp_path / "cap", "cpu")], teach_to=tmp_path / "taught")
    part = encoded(spotted(1, 1)[0].permute(1, 2, 0).numpy())
    httpx.post(f"{site.url}/v1/inspect", files={"image": ("<i>part.png", part)}, timeout=60)
    document = used(
        browser,
        tmp_path,
        site,
        """
        await until(() => cards() === 1 && !at("teaching").hidden, "the card and the form");
        const press = () => { type("teacher", "Ada"); type("reason", "a new spot");
          at("start-teaching").click(); };
        press();
        await until(() => at("taught").textContent.startsWith("Not taught: teach: no image"), "refusal");
        document.querySelector("[data-truth=good]").click();
        await until(() => scores.good.length === 1, "feedback");
        press();
        await until(() => at("taught").textContent.startsWith("cap-taught-1 answers beside"), "the lesson");
        if (at("model").options.length !== 2) throw new Error("the new model is not on offer");
        at("model").value = "cap-taught-1"; at("model").dispatchEvent(new Event("change"));
        await until(() => cards() === 0 && at("placed").hidden, "no inspection of it yet");
        at("model").value = "cap"; at("model").dispatchEvent(new Event("change"));
        await until(() => at("swap").textContent === "Let cap-taught-1 answer as cap", "the offer");
        at("swap").click();
        await until(() => at("place").textContent === "cap-taught-1 answers as cap.", "the swap");
        if (at("model").options.length !== 1) throw new Error("it is still served beside");
        if (at("swap").textContent !== "Go back to cap") throw new Error(at("swap").textContent)
        """,
    )
    assert "cap-taught-1 answers as cap from now on, instead of cap." in document
    assert "<td>&lt;i&gt;part.png</td><td>taught</td>" in document
    assert "Drift: nothing to say yet (0 images)" in document
