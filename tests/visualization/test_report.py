"""The report: well-formed, self-contained, and it says what the results say."""

from __future__ import annotations

import base64
import re
from dataclasses import replace
from functools import partial
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image
from thfr.errors import InputError
from thfr.io import read_map, write_map
from thfr.predictions.findings import find
from thfr.predictions.scale import ColourScale
from thfr.visualization import Entry, Report, write_contact_sheet, write_report
from thfr.visualization.curves import OverlapCurves
from thfr.visualization.gallery import UNKNOWN, pictures
from thfr.visualization.plots import LIGHT, draw_overlap, has_roc, headline, roc_points

SCALE = ColourScale(0.1, 0.5, 1.3, "the highest score of 12 good images", True)
METRICS = {
    "image_auroc": 0.987,
    "pixel_auroc": None,
    "au_pro": 0.871,
    "classification": {"auc_roc": {"logical_anomalies": 0.97, "structural_anomalies": None, "mean": None}},
    "localization": {
        "auc_spro": {
            "logical_anomalies": {"0.05": 0.7, "0.3": 0.8},
            "structural_anomalies": {"0.05": None, "0.3": None},
            "mean": {"0.05": 0.654, "0.3": None},
        }
    },
}
NASTY = "<b>&\"'$x$_{.png"
VOID = {"meta", "img", "source", "br", "link", "input"}


class Checker(HTMLParser):
    """Fails on tags that do not nest; collects attributes and text."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.attributes: list[tuple[str, str, str]] = []
        self.text: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.attributes += [(tag, name, value or "") for name, value in attrs]
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open, f"</{tag}> closes nothing"
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open[-1:] not in (["style"], ["script"]):
            self.text.append(data)


def parsed(path: Path) -> Checker:
    checker = Checker()
    checker.feed(path.read_text(encoding="utf-8"))
    checker.close()
    assert checker.open == []
    return checker


def entry(folder: Path, name: str, kind: str, score: float, size: tuple[int, int] = (40, 60)) -> Entry:
    place = folder / str(abs(hash(name)))
    place.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((*size, 3), 90, np.uint8)).save(place / "image.png")
    anomaly_map = np.full(size, 0.1, np.float32)
    anomaly_map[10:20, 10:20] = score
    write_map(place / "map.tiff", anomaly_map)
    truth = None if kind in ("good", UNKNOWN) else partial(mask, size)
    return Entry(name, kind, score, place / "image.png", place / "map.tiff", truth, place / "image.png")


def mask(size: tuple[int, int]) -> np.ndarray:
    found = np.zeros(size, bool)
    found[10:20, 10:20] = True
    return found


def labelled(folder: Path) -> Report:
    found = [entry(folder, f"good/{i}.png", "good", 0.2 + 0.1 * i) for i in range(4)]
    found += [entry(folder, f"logical_anomalies/{i}.png", "logical_anomalies", 0.3 * i) for i in range(1, 6)]
    found.append(entry(folder, NASTY, "logical_anomalies", 2.0))
    return Report("Trays & <others>", found, SCALE, METRICS, "a subtitle", metadata={"network": "a < b"})


def test_the_report_is_well_formed_and_self_contained(tmp_path: Path) -> None:
    write_report(tmp_path / "report.html", labelled(tmp_path))
    page = parsed(tmp_path / "report.html")
    sources = [
        value for _, name, value in page.attributes if name in ("src", "srcset", "href", "data", "poster")
    ]
    assert sources
    for value in sources:
        kind, data = re.fullmatch(r"data:image/(png|jpeg);base64,([A-Za-z0-9+/=]+)", value).groups()
        head = base64.b64decode(data, validate=True)[:8]
        assert head.startswith(b"\x89PNG" if kind == "png" else b"\xff\xd8")
    markup = re.sub(r"base64,[A-Za-z0-9+/=]+", "", (tmp_path / "report.html").read_text())
    for reference in ("http:", "https:", "file:", "//", "url(", "@import", 'src="/', "<link", str(tmp_path)):
        assert reference not in markup
    assert markup.count("<script>") == markup.count("<script") == 1  # its own, in the page


def test_names_are_escaped(tmp_path: Path) -> None:
    write_report(tmp_path / "report.html", labelled(tmp_path))
    text = parsed(tmp_path / "report.html").text
    assert any(NASTY in piece for piece in text)
    assert "Trays & <others>" in text
    assert "a < b" in text


def test_figures_and_alarms_are_those_of_the_results(tmp_path: Path) -> None:
    write_report(tmp_path / "report.html", labelled(tmp_path))
    text = " ".join(" ".join(parsed(tmp_path / "report.html").text).split())
    assert "98.7 % image AUROC" in text
    assert "87.1 % AU-PRO" in text
    assert "65.4 % AU-sPRO" in text
    assert "pixel AUROC" not in text  # it is not defined
    assert "0 false alarms among 4 good images" in text
    assert "5 found of 6 logical anomalies" in text
    assert "the highest score of 12 good images" in text
    # the legend, each anomalous image, and the one miss at the top
    assert text.count("ground truth") == 1 + 6 + 1
    assert text.count("nearest good") == 10


def test_mistakes_are_the_worst_and_come_first(tmp_path: Path) -> None:
    report = labelled(tmp_path)
    assert [e.score for e in report.mistakes(4)] == [pytest.approx(0.3)]
    worse = [entry(tmp_path, f"m{i}", "good", 0.6 + 0.1 * i) for i in range(3)]
    more = replace(report, entries=[*report.entries, *worse])
    assert [e.name for e in more.mistakes(2)] == ["logical_anomalies/1.png", "m2", "m1"]
    assert more.surprise(worse[0]) == pytest.approx(0.1)
    assert more.surprise(report.entries[-1]) == pytest.approx(-1.5)
    none = replace(report, entries=[e for e in report.entries if report.verdict(e) in ("found", "calm")])
    write_report(tmp_path / "report.html", none)
    assert "There are none" in " ".join(parsed(tmp_path / "report.html").text)


def test_restored_pictures_and_defects_are_shown(tmp_path: Path) -> None:
    square = np.full((32, 32, 3), 7, np.uint8)
    shown = replace(
        entry(tmp_path, "a.png", "bent", 0.9), restored=lambda: square, defects=("left_pin", "right_pin")
    )
    panels = dict(pictures(shown, SCALE, 100))
    assert list(panels) == ["image", "nearest good", "restored", "anomaly map", "ground truth"]
    assert panels["restored"].shape == panels["image"].shape == (40, 60, 3)
    assert (panels["restored"] == 7).all()
    write_report(tmp_path / "report.html", Report("t", [shown, entry(tmp_path, "b", "good", 0.2)], SCALE))
    page = parsed(tmp_path / "report.html")
    assert "left pin, right pin" in " ".join(page.text)
    assert ("article", "data-defects", "left pin, right pin") in page.attributes
    assert ("figure", "class", "restored") in page.attributes


def test_findings_are_boxed_and_listed(tmp_path: Path) -> None:
    one = entry(tmp_path, "part.png", UNKNOWN, 0.9)
    values = read_map(one.map)
    values[30:34, 50:58] = 0.7
    found = find(values, 0.5, pixels_per_mm=10.0)
    none = entry(tmp_path, "calm.png", UNKNOWN, 0.2)
    shown = [replace(one, findings=found, size=(40, 60)), replace(none, size=(40, 60))]
    write_report(tmp_path / "report.html", Report("Parts", shown, SCALE))
    page = parsed(tmp_path / "report.html")
    text = " ".join(page.text)
    assert "1 mm² (100 px), 1 × 1 mm at x 10, y 10; peak 0.9" in text
    assert "0.32 mm² (32 px), 0.8 × 0.4 mm at x 50, y 30; peak 0.7" in text
    styles = [value for tag, name, value in page.attributes if (tag, name) == ("i", "style")]
    assert "left:83.33%;top:75.00%;width:13.33%;height:10.00%" in styles
    assert text.count("peak") == len([style for style in styles if style.startswith("left")]) == 2


def test_curves_are_drawn_with_their_limit(tmp_path: Path) -> None:
    rise = (np.array([0.0, 0.05, 0.3, 1.0]), np.array([0.0, 0.8, 0.9, 1.0]))
    curves = [OverlapCurves("PRO", 0.3, {"all regions": rise}), OverlapCurves("sPRO", 0.05, {"bent": rise})]
    write_report(tmp_path / "report.html", replace(labelled(tmp_path), curves=curves))
    page = parsed(tmp_path / "report.html")
    for which in ("scores", "roc", "pro", "spro"):
        assert ("figure", "class", which) in page.attributes
    figure = Figure()
    axes = figure.subplots()
    draw_overlap(axes, curves[1], LIGHT)
    assert axes.get_xlim() == (0, 0.1)
    assert [line.get_xdata()[0] for line in axes.lines][1] == 0.05
    assert "limit 0.05" in [text.get_text() for text in axes.texts]


def test_the_worst_come_first(tmp_path: Path) -> None:
    report = labelled(tmp_path)
    assert [e.score for e in report.of("good")] == sorted((e.score for e in report.of("good")), reverse=True)
    assert [e.score for e in report.of("logical_anomalies")] == pytest.approx([0.3, 0.6, 0.9, 1.2, 1.5, 2.0])
    few = Report("t", report.entries, SCALE, per_kind=4)
    assert [e.score for e in few.shown("logical_anomalies")] == pytest.approx([0.3, 0.6, 0.9, 2.0])
    assert report.verdict(report.of("logical_anomalies")[0]) == "missed"
    assert report.verdict(report.of("logical_anomalies")[1]) == "found"
    assert report.verdict(entry(tmp_path, "x", "good", 0.6)) == "false alarm"
    assert report.verdict(entry(tmp_path, "x", "good", 0.4)) == "calm"
    assert report.verdict(entry(tmp_path, "x", UNKNOWN, 0.6)) == "alarm"


def test_a_report_without_truth(tmp_path: Path) -> None:
    entries = [entry(tmp_path, f"{i}.png", UNKNOWN, 0.2 * i) for i in range(1, 6)]
    report = Report("New images", entries, ColourScale(0.1, 0.5, 1, "these images", False), per_kind=3)
    assert [e.name for e in report.shown(UNKNOWN)] == ["5.png", "4.png", "3.png"]
    assert not has_roc(report)
    write_report(tmp_path / "report.html", report)
    write_contact_sheet(tmp_path / "report.png", report)
    text = " ".join(parsed(tmp_path / "report.html").text)
    assert "No decision threshold" in text
    assert "ROC" not in text
    assert "ground truth" not in text
    assert "3 of 5, the highest scores" in text


def test_mvtec_ad_figures_by_defect(tmp_path: Path) -> None:
    metrics = {
        "image_auroc": 0.9, "pixel_auroc": 0.8, "au_pro": 0.7,
        "defects": {"bent_lead": {"image_auroc": 0.912}, "cut_lead": {"image_auroc": None}},
    }  # fmt: skip
    entries = [entry(tmp_path, "a", "good", 0.2), entry(tmp_path, "b", "bent_lead", 0.9)]
    write_report(tmp_path / "report.html", Report("t", entries, SCALE, metrics))
    text = " ".join(" ".join(parsed(tmp_path / "report.html").text).split())
    assert "bent lead 91.2 %" in text
    assert "cut lead -" in text
    assert [name for name, _, _ in headline(metrics)] == ["image AUROC", "pixel AUROC", "AU-PRO, FPR to 0.3"]


@pytest.mark.parametrize("size", [(40, 60), (120, 40), (700, 900)])
def test_the_contact_sheet_is_a_png_of_bearable_size(tmp_path: Path, size: tuple[int, int]) -> None:
    kinds = [("good", 0.3), ("broken_small", 0.9), ("a$b$_{", 0.2)]
    entries = [
        entry(tmp_path, f"{kind}{i}", kind, score + 0.01 * i, size) for kind, score in kinds for i in range(7)
    ]
    write_contact_sheet(tmp_path / "report.png", Report(r"Title $\frac{$ of it", entries, SCALE, METRICS))
    with Image.open(tmp_path / "report.png") as sheet:
        assert sheet.format == "PNG"
        assert 1200 <= sheet.width <= 2000
        assert 600 <= sheet.height <= 4000
        assert np.asarray(sheet.convert("L")).std() > 5


def test_pictures_are_reduced_but_never_enlarged(tmp_path: Path) -> None:
    large = pictures(entry(tmp_path, "large", "bent", 0.9, (300, 600)), SCALE, 100)
    assert [label for label, _ in large] == ["image", "nearest good", "anomaly map", "ground truth"]
    assert {panel.shape for _, panel in large} == {(50, 100, 3)}
    small = pictures(entry(tmp_path, "small", "good", 0.9), SCALE, 100)
    assert {panel.shape for _, panel in small} == {(40, 60, 3)}


def test_a_missing_map_is_an_input_error_and_leaves_the_old_report(tmp_path: Path) -> None:
    report = labelled(tmp_path)
    write_report(tmp_path / "report.html", report)
    before = (tmp_path / "report.html").read_bytes()
    report.entries[0].map.unlink()
    for write in (write_report, write_contact_sheet):
        with pytest.raises(InputError, match=r"map\.tiff"):
            write(tmp_path / "report.html", report)
    assert (tmp_path / "report.html").read_bytes() == before


def test_the_same_results_give_the_same_report(tmp_path: Path) -> None:
    report = labelled(tmp_path)
    for name in ("a", "b"):
        write_report(tmp_path / f"{name}.html", report)
    assert (tmp_path / "a.html").read_bytes() == (tmp_path / "b.html").read_bytes()


def test_roc_points_step_over_ties() -> None:
    false, true = roc_points([0.1, 0.5, 0.5], [0.5, 0.9])
    np.testing.assert_allclose(false, [0, 0, 2 / 3, 1])
    np.testing.assert_allclose(true, [0, 0.5, 1, 1])
    generator = np.random.default_rng(0)
    good, bad = generator.integers(0, 9, 40) / 9, generator.integers(3, 12, 30) / 9
    pairs = (bad[:, None] > good).mean() + 0.5 * (bad[:, None] == good).mean()
    false, true = roc_points(good, bad)
    assert np.sum(np.diff(false) * (true[1:] + true[:-1]) / 2) == pytest.approx(pairs)


def test_a_kind_is_no_formula(tmp_path: Path) -> None:
    kinds = [r"$\foo$", "a$b$^_", "good"]
    found = [entry(tmp_path, f"{number}.png", kind, 0.3 * number) for number, kind in enumerate(kinds)]
    report = Report(r"$\bar{$", found, SCALE)
    write_report(tmp_path / "report.html", report)
    write_contact_sheet(tmp_path / "report.png", report)
    assert any(r"$\foo$" in piece for piece in parsed(tmp_path / "report.html").text)
    assert (tmp_path / "report.png").stat().st_size > 10_000
