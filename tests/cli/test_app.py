"""What every command has in common: help, exit codes, errors, and the line of JSON."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Callable

import pytest
from thfr.cli import app, doctor
from thfr.cli.output import Result
from thfr.errors import InputError

COMMANDS = (
    *("synth", "train", "calibrate", "predict", "evaluate", "report", "gallery", "visualize"),
    *("ablate", "tables", "doctor", "demo", "bench"),
)

Run = Callable[[argparse.Namespace], Result]


def run_as_doctor(monkeypatch: pytest.MonkeyPatch, run: Run, *options: str) -> int:
    """The exit code of `thfr doctor` with another body."""
    monkeypatch.setattr(doctor, "run", run)
    return app.main(["doctor", *options])


def raising(error: BaseException) -> Run:
    def run(args: argparse.Namespace) -> Result:
        raise error

    return run


def test_help_is_quick_and_loads_nothing_heavy() -> None:
    script = (
        "import sys; from thfr.cli import main\n"
        "try: main(['--help'])\n"
        "except SystemExit: pass\n"
        "heavy = {'torch', 'timm', 'numpy', 'thfr_ext'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    for command in COMMANDS:
        assert command in done.stdout


@pytest.mark.parametrize("command", [*(name for name in COMMANDS if name != "ablate"), "ablate grid"])
def test_every_command_explains_itself(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        app.main([*command.split(), "--help"])
    assert caught.value.code == 0
    text = capsys.readouterr().out
    assert "--json" in text
    assert "==SUPPRESS==" not in text


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        app.main(["--version"])
    assert caught.value.code == 0
    assert capsys.readouterr().out.startswith("thfr-ext 0.")


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["paint"],
        ["doctor", "--jsn"],
        ["doctor", "--js"],
        ["synth"],
        ["synth", "x", "--images", "0"],
        ["synth", "x", "--seed", "-1"],
        ["train", "--dataset", "folder", "--data", "."],
        ["train", "--dataset", "imagenet", "--data", ".", "--out", "x"],
        ["train", "--dataset", "folder", "--data", "/does/not/exist", "--out", "x"],
        ["train", "--dataset", "folder", "--data", ".", "--out", "x", "--epochs", "half"],
        ["train", "--dataset", "folder", "--data", ".", "--out", "x", "--variant", "best"],
        ["predict", "/does/not/exist", "x.png", "--out", "x"],
        ["report", "/does/not/exist"],
        ["report", ".", "--per-kind", "0"],
        ["gallery", ".", "--per-kind", "none"],
        ["visualize"],
        ["visualize", ".", "--steps", "0"],
        ["visualize", ".", "--beside", "/does/not/exist"],
        ["evaluate"],
        ["evaluate", "/does/not/exist"],
        ["evaluate", ".", "--maps", "."],
        ["evaluate", ".", "--out", "x.json"],
        ["evaluate", "--maps", "."],
        ["evaluate", "--maps", ".", "--dataset", "folder", "--data", ".", "--category", "x", "--out", "y"],
    ],
)
def test_wrong_usage_exits_with_2(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        app.main(arguments)
    assert caught.value.code == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "error:" in captured.err


def test_wrong_input_exits_with_2(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_as_doctor(monkeypatch, raising(InputError("train: no such folder: x"))) == 2
    captured = capsys.readouterr()
    assert captured.err == "thfr doctor: error: train: no such folder: x\n"
    assert captured.out == ""


def test_other_errors_exit_with_1_and_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("THFR_DEBUG", raising=False)
    assert run_as_doctor(monkeypatch, raising(RuntimeError("out of memory"))) == 1
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "RuntimeError: out of memory" in error


def test_debug_shows_the_traceback(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("THFR_DEBUG", "1")
    assert run_as_doctor(monkeypatch, raising(RuntimeError("out of memory"))) == 1
    assert "Traceback (most recent call last)" in capsys.readouterr().err


def test_an_interrupt_exits_with_130(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_as_doctor(monkeypatch, raising(KeyboardInterrupt())) == 130
    assert "interrupted" in capsys.readouterr().err


def chatty(args: argparse.Namespace) -> Result:
    print("a library that prints")
    return Result("for people", {"answer": 42}, exit_code=1)


def test_json_has_stdout_to_itself(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_as_doctor(monkeypatch, chatty, "--json") == 1
    captured = capsys.readouterr()
    assert json.loads(captured.out) == {"answer": 42}
    assert captured.out.count("\n") == 1
    assert "a library that prints" in captured.err


def test_without_json_people_are_told(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_as_doctor(monkeypatch, chatty) == 1
    assert capsys.readouterr().out == "a library that prints\nfor people\n"


def test_a_reader_that_has_gone_is_no_traceback() -> None:
    script = "import sys; from thfr.cli import main; sys.exit(main(['doctor']))"
    done = subprocess.run(
        ["bash", "-c", f'set -o pipefail; "{sys.executable}" -c "{script}" | true; exit ${{PIPESTATUS[0]}}'],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1, done
    assert done.stderr == ""
