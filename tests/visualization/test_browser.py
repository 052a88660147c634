"""The report in a browser: nothing is fetched, nothing complains, and sorting, filtering and fading work."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest
from thfr.visualization import Report, write_report

from .test_report import SCALE, labelled

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")


@pytest.fixture(scope="module")
def browser() -> str:
    found = next(filter(None, map(shutil.which, BROWSERS)), None)
    if found is None:
        pytest.skip(f"no browser on PATH: {', '.join(BROWSERS)} (apt-get install chromium)")
    return found


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("report")
    write_report(folder / "report.html", labelled(folder))
    return folder / "report.html"


def dom(browser: str, page: Path, state: str = "") -> str:
    """The document as it is after its script has run; fails if the console says anything."""
    with_profile = f"--user-data-dir={page.parent / 'profile'}"
    done = subprocess.run(
        [
            browser, "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage",
            "--enable-logging=stderr", "--virtual-time-budget=2000", with_profile, "--dump-dom",
            f"{page.as_uri()}{state}",
        ],
        capture_output=True, text=True, timeout=120, check=True,
    )  # fmt: skip
    assert "CONSOLE" not in done.stderr, done.stderr
    return done.stdout


def gallery(document: str) -> list[str]:
    """The names of the gallery's cards and ``|`` for the line of the decision threshold, in their order."""
    inside = document.split('<section class="gallery">')[1].split("</section>")[1]
    found = re.findall(r'<article data-name="([^"]+)"|<div class="(limit)"', inside)
    return [name or "|" for name, _ in found]


def counted(document: str) -> str:
    return re.findall(r"<output[^>]*>([^<]*)</output>", document)[0]


def acting(page: Path, name: str, script: str) -> Path:
    """A copy of the page in which a hand does something with the controls."""
    copy = page.with_name(f"{name}.html")
    hand = (
        "<script>const form = document.querySelector('.tools');"
        "const set = (name, value) => { form.elements[name].value = value;"
        " form.elements[name].dispatchEvent(new Event('input', { bubbles: true })); };"
        f"{script}; document.title = location.hash;</script></body>"
    )
    copy.write_text(page.read_text().replace("</body>", hand), encoding="utf-8")
    return copy


def test_it_opens_without_network_and_in_order(browser: str, page: Path) -> None:
    document = dom(browser, page)
    assert "default-src 'none'" in document  # so that the browser itself would refuse to fetch anything
    assert gallery(document)[0] == "logical_anomalies/1.png"  # the only miss
    assert gallery(document)[-1].endswith(".png")
    assert len(gallery(document)) == 10
    assert counted(document) == "10 of 10 images"
    assert '<form class="tools" data-limit="0.5">' in document  # no longer hidden


def test_the_address_sets_order_filter_and_fade(browser: str, page: Path) -> None:
    low = [f"good/{i}.png" for i in range(4)]
    document = dom(browser, page, "#sort=low&kind=good&fade=40")
    assert gallery(document) == low
    assert counted(document) == "4 of 10 images"
    assert document.count('class="layer"') == 4
    assert document.count("opacity: 0.4;") == 4
    document = dom(browser, page, "#sort=high&find=anomalies&sort=nonsense&other=1")
    names = [f"logical_anomalies/{i}.png" for i in (5, 4, 3, 2)]
    assert gallery(document) == [*names, "|", "logical_anomalies/1.png"]
    assert "decision threshold 0.5: no alarm from here on" in document
    assert "No image is like that." in dom(browser, page, "#verdict=missed&kind=good")


def test_the_controls_change_the_page(browser: str, page: Path) -> None:
    sort = acting(page, "sort", "set('sort', 'low'); set('verdict', 'found'); set('find', 'IES/3')")
    document = dom(browser, sort)
    assert gallery(document) == ["logical_anomalies/3.png"]
    assert "<title>#sort=low&amp;verdict=found&amp;find=IES%2F3</title>" in document
    fade = acting(page, "fade", "set('fade', '75'); set('fade', '20'); set('kind', 'good'); set('kind', '')")
    document = dom(browser, fade)
    assert document.count("opacity: 0.2;") == 10
    assert document.count('class="layer"') == 10  # one a card, however often the slider moves
    assert "<title>#fade=20</title>" in document
    assert len(gallery(document)) == 10


def test_new_images_have_no_kinds_to_choose(browser: str, tmp_path: Path) -> None:
    known = labelled(tmp_path)
    entries = [type(e)(e.name, "images", e.score, e.image, e.map) for e in known.entries]
    write_report(tmp_path / "report.html", Report("New images", entries, SCALE))
    document = dom(browser, tmp_path / "report.html")
    assert 'name="kind"' not in document
    assert 'value="surprise"' not in document
    scores = [float(value) for value in re.findall(r'data-score="([^"]+)"', document)]
    assert scores == sorted(scores, reverse=True)
    assert '<div class="limit"' in document
