"""`thfr compare` end to end, and what it takes for a method's configuration."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from thfr.errors import InputError
from thfr.methods import Detector, config_class, config_from_yaml, detector_class, method_names
from thfr.study.comparison import comparison_trials, method_config, smaller
from thfr.study.results import configuration_key

Call = Callable[..., tuple[int, dict[str, Any]]]


def test_the_command_line_knows_every_method() -> None:
    assert list(method_names()) == sorted(method_names())


@pytest.mark.parametrize("method", method_names())
def test_every_method_is_complete(method: str) -> None:
    config = config_class(method).from_values({"method": method})
    assert config.method == method
    assert config.title
    assert config.paper
    assert config_from_yaml(config.to_yaml()) == config
    assert issubclass(detector_class(method), Detector)
    assert method_config(method, "resnet18", 128, "cpu").model.size == (128, 128)  # its smaller fields exist


def test_only_thfr_is_tried_with_random_templates(tmp_path: Path) -> None:
    data = [("mvtec_ad", "nut", {})]
    options = {"budget": "cpu", "geometry": {}, "changes": {}, "seeds": [0], "first": True}
    for trial in comparison_trials(data, method_names(), "resnet18", None, **options):
        assert len(trial.evaluations) == (2 if trial.config.method == "thfr" else 1), trial.name


def compare(data: Path, methods: list[str], backbones: list[str], config: Path, out: Path) -> list[Any]:
    seen = ["--data", f"mvtec_ad={data}", "--category", "plate", "--size", 64, "--device", "cpu"]
    return [
        *("compare", *seen, "--methods", *methods, "--backbone", *backbones),
        *("--config", config, "--out", out),
    ]


def test_few_shots(data: Path, tiny_methods: Path, tmp_path: Path, call: Call) -> None:
    command = compare(data, ["patchcore"], ["tf_efficientnet_lite0"], tiny_methods, tmp_path)
    code, report = call(*command, "--shots", 1, 2, "--seeds", 0, 1)
    assert code == 0
    assert [row["setting"]["shots"] for row in report["rows"]] == [1, 2]
    trials = [json.loads(path.read_text()) for path in (tmp_path / "trials").iterdir()]
    assert sorted(trial["run"]["images"] for trial in trials) == [1, 1, 2, 2]
    assert "| method | backbone | shots |" in (tmp_path / "comparison.md").read_text()
    with (tmp_path / "comparison.csv").open() as file:
        assert [row["shots"] for row in csv.DictReader(file)] == ["1", "2"]


def test_changes_win_over_the_budget() -> None:
    budgets = {name: smaller(name) for name in method_names()}
    method, fields = next((n, f) for n, f in budgets.items() if "epochs" in f.get("training", {}))
    shrunk = method_config(method, "resnet18", budget="cpu")
    assert shrunk.training.model_dump()["epochs"] == fields["training"]["epochs"]
    changed = method_config(method, "resnet18", budget="cpu", changes={"training": {"epochs": 77}})
    assert changed.training.model_dump()["epochs"] == 77


@pytest.fixture(scope="module")
def tiny_methods(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("config") / "methods.yaml"
    model = {"pretrained": False}
    training = {"epochs": 1, "min_steps": 0, "batch_size": 2}
    values = {
        "thfr": {"model": {**model, "bottleneck_channels": 16}, "training": training},
        "patchcore": {"model": model},
    }
    path.write_text(yaml.safe_dump(values))
    return path


def test_two_methods_on_two_backbones(data: Path, tiny_methods: Path, tmp_path: Path, call: Call) -> None:
    backbones = ["resnet18", "tf_efficientnet_lite0"]
    command = compare(data, ["patchcore", "thfr"], backbones, tiny_methods, tmp_path)
    code, report = call(*command)
    assert code == 0
    rows = [row for row in report["rows"] if row["evaluation"]["templates"] == "nearest"]
    found = {tuple(row["setting"].values()) for row in rows}
    assert found == {(m, b) for m in ("patchcore", "thfr") for b in ("resnet18", "tf_efficientnet_lite0")}
    assert all(row["milliseconds"] > 0 and row["train_seconds"] > 0 for row in rows)
    lines = (tmp_path / "comparison.md").read_text().splitlines()
    assert sum(line.startswith(("| PatchCore |", "| THFR |")) for line in lines) == 4
    with (tmp_path / "comparison.csv").open() as file:
        table = list(csv.DictReader(file))
    assert [row["method"] for row in table] == ["thfr", "thfr", "patchcore", "patchcore"]
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "trials").iterdir()}
    assert call(*command)[0] == 0  # all there: nothing is repeated
    assert before == {path: path.stat().st_mtime_ns for path in (tmp_path / "trials").iterdir()}
    code, tables = call("tables", tmp_path, "--out", tmp_path / "tables", "--published", "PatchCore", "THFR")
    assert code == 0
    measured = {row["method"] for table in tables["tables"] for row in table["rows"] if not row["published"]}
    assert {"PatchCore, resnet18", "THFR, tf_efficientnet_lite0"} <= measured


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--data", "magic=."], "expected DATASET=ROOT with a data set of "),
        (["--data", "mvtec_ad"], "expected DATASET=ROOT with a data set of "),
        (["--data", "mvtec_ad={data}", "--category", "cup"], "none of the folders holds cup"),
        (["--data", "mvtec_ad={data}", "--backbone", "resnet18", "resnet18"], "given twice"),
        (["--data", "mvtec_ad={data}", "--backbone", "resnet18+test_vit=a+b"], "in thfr train only"),
        (["--data", "mvtec_ad={data}", "--backbone", "vgg"], "backbone"),
        (["--data", "mvtec_ad={data}", "--methods", "magic"], "invalid choice"),
    ],
)
def test_wrong_options(
    data: Path,
    tmp_path: Path,
    call: Call,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    said: str,
) -> None:
    from thfr.cli import main

    options = [text.format(data=data) for text in arguments]
    with pytest.raises(SystemExit) as stopped:
        raise SystemExit(main(["compare", *options, "--out", str(tmp_path / "out")]))
    assert stopped.value.code == 2
    assert said in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_changes_of_no_method(tmp_path: Path, data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from thfr.cli import main

    path = tmp_path / "changes.yaml"
    path.write_text("magic: {training: {epochs: 1}}")
    options = ["--data", f"mvtec_ad={data}", "--category", "plate", "--config", str(path)]
    assert main(["compare", *options, "--out", str(tmp_path / "out")]) == 2
    assert "method must be one of" in capsys.readouterr().err


def test_a_method_without_steps_has_no_epochs() -> None:
    with pytest.raises(InputError, match=r"training\.epochs"):
        method_config("padim", "resnet18", changes={"training": {"epochs": 3}})


def test_a_method_without_a_backbone_is_one_row_whatever_backbone_it_names() -> None:
    configs = [method_config("draem", name) for name in ("resnet18", "tf_efficientnet_lite0")]
    assert configuration_key(configs[0]) == configuration_key(configs[1])
    assert {config.full_label for config in configs} == {"DRAEM"}
    others = [method_config("padim", name) for name in ("resnet18", "tf_efficientnet_lite0")]
    assert configuration_key(others[0]) != configuration_key(others[1])
    assert [config.full_label for config in others] == ["PaDiM, resnet18", "PaDiM, tf_efficientnet_lite0"]
