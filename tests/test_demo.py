"""The demo, end to end, small: everything it promises is there, and it does nothing twice."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image
from thfr.cli import demo_run as demo
from thfr.errors import InputError
from thfr.evaluation import evaluate_run
from thfr.inference import predict

SMALL = {"images": 3, "steps": 2, "size": 64, "device": "cpu", "progress": False}


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict]:
    out = tmp_path_factory.mktemp("demo") / "here"
    return out, demo.run(out, **SMALL)


def state(out: Path) -> dict[str, int]:
    return {
        path.relative_to(out).as_posix(): path.stat().st_mtime_ns for path in out.rglob("*") if path.is_file()
    }


def test_it_writes_what_it_says(finished: tuple[Path, dict]) -> None:
    out, found = finished
    assert {path.name for path in out.iterdir()} == {
        "data", "demo.json", "report.html", "report.png", "results", "run",
    }  # fmt: skip
    assert set(found) == {"report", "contact_sheet", "run", "data", "results", "metrics"}
    assert "".join((out / "report.html").read_text().split()).endswith("</html>")
    with Image.open(found["contact_sheet"]) as sheet:
        assert sheet.format == "PNG"
    assert found["metrics"] == json.loads((out / "run" / "metrics.json").read_text())
    assert 0 <= found["metrics"]["image_auroc"] <= 1
    words = demo.summary(found)
    assert f"{100 * found['metrics']['image_auroc']:.1f} %" in words
    assert found["report"] in words


def test_a_second_call_makes_nothing_again(finished: tuple[Path, dict]) -> None:
    out, found = finished
    before = state(out)
    assert demo.run(out, **SMALL) == found
    assert state(out) == before


def test_the_run_is_an_ordinary_run(finished: tuple[Path, dict], tmp_path: Path) -> None:
    out, found = finished
    figures = {
        name: value for name, value in evaluate_run(out / "run", device="cpu").items() if name != "model"
    }
    assert figures["image_auroc"] == pytest.approx(found["metrics"]["image_auroc"])
    assert figures["au_pro"] == pytest.approx(found["metrics"]["au_pro"], abs=1e-6)
    image = next((out / "data").rglob("test/good/*.png"))
    assert len(predict(out / "run", image, tmp_path / "p", device="cpu").images) == 1


def test_what_is_missing_is_made(finished: tuple[Path, dict]) -> None:
    out, _ = finished
    before = state(out)
    (out / "report.png").unlink()
    demo.run(out, **SMALL)
    after = state(out)
    assert after.keys() == before.keys()
    assert {name for name in after if after[name] != before[name]} <= {"report.png", "report.html"}


def test_it_takes_no_folder_that_is_not_its_own(finished: tuple[Path, dict], tmp_path: Path) -> None:
    out, _ = finished
    before = state(out)
    with pytest.raises(InputError, match="other settings"):
        demo.run(out, **{**SMALL, "steps": 3})
    (tmp_path / "mine.txt").write_text("x")
    with pytest.raises(InputError, match="not empty and holds no demo"):
        demo.run(tmp_path, **SMALL)
    with pytest.raises(InputError, match="got the file"):
        demo.run(tmp_path / "mine.txt", **SMALL)
    with pytest.raises(InputError, match="size"):
        demo.run(tmp_path / "new", **{**SMALL, "size": 65})
    assert not (tmp_path / "new").exists()
    assert state(out) == before


def test_it_says_what_it_does(finished: tuple[Path, dict], capsys: pytest.CaptureFixture[str]) -> None:
    out, _ = finished
    demo.run(out, **{**SMALL, "progress": True})
    said = capsys.readouterr()
    assert [f"{n}/5" in said.err for n in range(1, 6)] == [True] * 5
    assert said.out == ""
