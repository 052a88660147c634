"""Tables of results beside published ones."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from thfr.cli import main
from thfr.errors import InputError
from thfr.methods.thfr.config import THFRConfig, THFRModelConfig, THFRTrainingConfig
from thfr.study.published import official_categories, official_metadata
from thfr.study.render import as_csv, as_latex, as_markdown, as_values
from thfr.study.results import Result, configuration_key, find_results, unofficial
from thfr.study.tables import Table, make_tables
from thfr.study.trials import Evaluation, Trial, read_trial, trial_path, write_trial

Call = Callable[..., tuple[int, dict[str, Any]]]
AD = list(official_categories("mvtec_ad"))


def make_result(
    category: str, seed: int = 0, value: float | None = 0.5, size: str | None = None, **model: Any
) -> Result:
    """An MVTec AD result with ``value`` for every figure, on data as official as can be told."""
    metadata = official_metadata("mvtec_ad", category)
    config = THFRConfig(
        model=THFRModelConfig(**model), training=THFRTrainingConfig(seed=seed), weights_digest="ab" * 32
    )
    data = {
        split: {
            "images": {"good": metadata.get(split, 7)},
            "sizes": {size or metadata.get("size", "800x800"): 7},
            "sha256": f"{split}-{category}",
        }
        for split in ("train", "test")
    }
    figures = dict.fromkeys(("image_auroc", "pixel_auroc", "au_pro"), value)
    source = Path(f"{category}-{seed}-{config.model.model_dump_json()}")
    return Result(source, "mvtec_ad", category, config, configuration_key(config), figures, data)


def image_auroc(results: list[Result], *published: str) -> Table:
    return make_tables(results, published).tables[0]


def test_a_mean_needs_every_category() -> None:
    results = [make_result(category, seed, 0.8 + seed / 10) for category in AD for seed in (0, 1)]
    (line,) = image_auroc(results).lines
    assert (line.values["mean"].mean, line.values["mean"].official) == (pytest.approx(85.0), True)
    assert line.values["mean"].std == pytest.approx(10 / 2**0.5)
    assert line.values["bottle"].std == pytest.approx(10 / 2**0.5)
    (line,) = image_auroc([result for result in results if result.category != "wood"]).lines
    assert set(line.values) == set(AD) - {"wood"}
    results[0] = make_result(AD[0], 0, None)  # of bottle one seed's figure is not defined
    (line,) = image_auroc(results).lines
    assert set(line.values) == set(AD) - {AD[0]}


def test_unequal_seeds_give_a_mean_without_deviation() -> None:
    results = [make_result(category, 0, 0.8) for category in AD] + [make_result("wood", 1, 0.9)]
    (line,) = image_auroc(results).lines
    assert line.values["mean"].mean == pytest.approx((14 * 80 + 85) / 15)
    assert line.values["mean"].std is None


def test_marks_are_the_paper_s() -> None:
    table = image_auroc([make_result("cable", value=0.1)], "PatchCore", "THFR", "CFLOW")
    marks = {line.method: table.best(line, "cable") for line in table.lines}
    assert (marks["PatchCore"], marks["THFR"], marks["CFLOW"]) == (1, 2, None)
    tied = {line.method: table.best(line, "bottle") for line in table.lines}
    assert (tied["PatchCore"], tied["THFR"]) == (None, None)  # all are the same, so none is the best
    means = {line.method: table.best(line, "mean") for line in table.lines}
    assert (means["THFR"], means["PatchCore"]) == (1, 2)


def test_a_measured_row_may_be_the_best() -> None:
    table = image_auroc([make_result("cable", value=0.996)], "PatchCore", "THFR")
    assert [table.best(line, "cable") for line in table.lines] == [2, None, 1]


def test_what_is_not_official_is_said_and_never_ranked() -> None:
    scaled = make_result("bottle", value=1.0, size="384x384")
    assert unofficial(scaled) == ["images of 384x384 instead of 900x900 pixels"]
    made = make_tables([scaled, make_result("my_part")], ["THFR", "RD4AD"])
    table = made.tables[1]
    measured = table.lines[-1]
    assert table.best(measured, "bottle") is None
    assert list(table.columns)[-2:] == ["mean", "my_part"]
    notes = "\n".join(made.notes)
    assert "† bottle: not the official data (images of 384x384 instead of 900x900 pixels)" in notes
    assert "† my_part: not a category of the official data set" in notes
    assert "100 †" in as_markdown(made)
    assert r"100$^\dagger$" in as_latex(made)


def test_the_mean_of_a_scaled_category_is_not_ranked_either() -> None:
    results = [make_result(c, value=1.0, size="384x384" if c == "bottle" else None) for c in AD]
    table = image_auroc(results, "THFR", "PatchCore")
    assert table.best(table.lines[-1], "mean") is None
    assert table.best(table.lines[-1], "cable") == 1


def test_what_cannot_be_checked_is_said() -> None:
    (note,) = make_tables([make_result("cable"), make_result("bottle")], []).notes
    assert note == "Official numbers of images are not known to this program, so not checked: cable."


def test_discrepancies_and_remarks_are_said_of_what_is_shown() -> None:
    notes = "\n".join(make_tables([make_result("bottle")], ["CFLOW"], ["on one machine"]).notes)
    assert "Table 4: the printed mean of CFLOW, 97.9, is not its row's mean, 97.82." in notes
    assert "CFLOW: evaluated on inputs of 256x256 pixels" in notes
    assert "on one machine" in notes
    assert "CFLOW" not in "\n".join(make_tables([make_result("bottle")], ["THFR"]).notes)


def test_rows_are_told_apart_by_what_differs() -> None:
    results = [
        make_result("bottle", global_blocks=2),
        make_result("bottle"),
        make_result("bottle", variant="gl"),
    ]
    names = list(make_tables(results, []).rows)
    assert names == [
        "THFR, wide_resnet50_2, global blocks 2",
        "THFR, wide_resnet50_2, global blocks 3",
        "G-L, wide_resnet50_2",
    ]


def test_two_sets_of_files_make_no_row() -> None:
    with pytest.raises(InputError, match=r"^tables: .* was measured on other files of bottle"):
        make_tables([make_result("bottle", 0), make_result("bottle", 1, size="384x384")], [])


def test_every_format_holds_the_figures() -> None:
    made = make_tables([make_result("bottle", seed, 0.9 + seed / 100) for seed in (0, 1)], ["THFR"])
    markdown, latex = as_markdown(made), as_latex(made)
    assert "| THFR, wide_resnet50_2 (measured) | <u>90.5 ± 0.7</u> | - |" in markdown
    assert r"THFR, wide\_resnet50\_2 (measured) & \underline{90.5}$\pm$0.7 & - &" in latex
    assert latex.count(r"\begin{tabular}{lcccccccccccccccc}") == 3
    assert latex.count(r"\toprule") == latex.count(r"\midrule") == latex.count(r"\bottomrule") == 3
    lines = list(csv.DictReader(io.StringIO(as_csv(made))))
    measured = [line for line in lines if line["published"] == "False" and line["figure"] == "au_pro"]
    assert [(line["category"], float(line["mean"])) for line in measured] == [("bottle", pytest.approx(90.5))]
    assert len([line for line in lines if line["published"] == "True"]) == 3 * 16
    origin = json.loads(json.dumps(as_values(made)))["rows"]["THFR, wide_resnet50_2"]
    trial = origin["categories"]["mvtec_ad/bottle"]
    assert (trial["seeds"], trial["weights_sha256"]) == ([0, 1], ["ab" * 32])
    assert trial["config"]["model"]["attention_temperature"] == 30
    for text in (markdown, latex):
        assert "seeds 0 1" in text
        assert "ab" * 32 in text
        assert "test test-bottle" in text


def test_from_data_to_tables_with_one_command(
    data: Path, tiny: list[str], tmp_path: Path, call: Call
) -> None:
    command = ["tables", "--train", data, "--category", "bottle", "--out", tmp_path, *tiny, "--seeds", 0]
    code, values = call(*command, "--published", "THFR", "--note", "made-up images")
    assert code == 0
    assert [Path(path).name for path in values["files"]] == [
        "tables.md", "tables.tex", "tables.csv", "tables.json",
    ]  # fmt: skip
    measured = values["tables"][0]["rows"][-1]
    assert set(measured["values"]) == {"bottle"}
    assert measured["values"]["bottle"]["official"] is False
    assert values["notes"][-1] == "made-up images"
    before = (tmp_path / "tables.csv").read_text()
    assert main(["tables", str(tmp_path / "trials"), "--out", str(tmp_path / "again"), "--published"]) == 0
    assert [line for line in before.splitlines() if ",False,bottle" in line] == [
        line for line in (tmp_path / "again" / "tables.csv").read_text().splitlines() if "bottle" in line
    ]


def test_runs_are_read_as_cells_are(data: Path, tmp_path: Path, call: Call) -> None:
    run = tmp_path / "runs" / "one"
    options = ["--backbone", "tf_efficientnet_lite0", "--size", 64, "--epochs", 1, "--device", "cpu"]
    where = ["--dataset", "mvtec_ad", "--data", data, "--category", "plate"]
    assert call("train", *where, "--out", run, *options, "--variant", "lbn")[0] == 0
    _, metrics = call("evaluate", run, "--device", "cpu")
    code, values = call("tables", tmp_path, "--out", tmp_path / "tables", "--published")
    assert code == 0
    assert [table["figure"] for table in values["tables"]] == ["image_auroc", "pixel_auroc", "au_pro"]
    for table in values["tables"]:
        (row,) = table["rows"]
        assert row["method"] == "LBN, tf_efficientnet_lite0"
        assert row["values"]["plate"]["mean"] == pytest.approx(100 * metrics[table["figure"]])
    (trial,) = values["rows"]["LBN, tf_efficientnet_lite0"]["categories"].values()
    assert trial["data"] == metrics["data"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "give folders with results, or --train ROOT"),
        (["--train", "{data}"], "--train also needs --dataset"),
        (["{data}", "--epochs", "3"], "--epochs: only with --train"),
        (["{data}"], "no finished run"),
        (["{data}", "--published", "YOLO"], "no figures of 'YOLO'"),
    ],
)
def test_wrong_usage(
    arguments: list[str], message: str, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = [argument.format(data=data) for argument in arguments]
    try:
        code = main(["tables", *given, "--out", str(tmp_path)])
    except SystemExit as stop:  # argparse's own way
        code = int(str(stop.code))
    assert code == 2
    assert message in capsys.readouterr().err


def test_trials_of_older_studies_are_found_and_not_repeated(tmp_path: Path) -> None:
    """They lay in ``cells`` and were of another format by name."""
    config = make_result("cable").config
    trial = Trial("mvtec_ad", "cable", {"structure": "thfr"}, config, (Evaluation(),), {"test": {}})
    metrics = {"image_auroc": 0.5, "pixel_auroc": 0.5, "au_pro": 0.5}
    results = {
        "trained": config.model_dump(mode="json"),
        "results": [{"evaluation": vars(Evaluation()), "metrics": metrics}],
    }
    assert trial_path(tmp_path, trial).parent == tmp_path / "trials"
    old = tmp_path / "cells" / trial_path(tmp_path, trial).name
    write_trial(old, trial, results)
    old.write_text(old.read_text().replace("thfr-trial-1", "thfr-cell-1"))
    assert trial_path(tmp_path, trial) == old
    assert read_trial(old)["name"] == trial.name
    (found,) = find_results([tmp_path])
    assert (found.source, found.category, found.figures["au_pro"]) == (old, "cable", 0.5)


def test_names_are_escaped_in_each_language() -> None:
    tables = make_tables([make_result(r"\input{x}~^$"), make_result("=cmd()")], [])
    latex = as_latex(tables)
    assert r"\input{" not in latex.split("itemize")[0]
    assert r"\textbackslash{}input\{x\}\textasciitilde{}\textasciicircum{}\$" in latex
    rows = list(csv.DictReader(io.StringIO(as_csv(tables))))
    assert {row["category"] for row in rows} >= {"'=cmd()", r"\input{x}~^$"}
