"""What every command has in common: help, exit codes, errors, and the line of JSON."""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Callable

import pytest
from thfr.cli import app, doctor
from thfr.cli.output import Result
from thfr.errors import InputError

COMMANDS = (
    *("synth", "train", "calibrate", "predict", "evaluate", "report", "gallery", "visualize"),
    *("ablate", "compare", "tables", "doctor", "demo", "bench"),
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
    """Of ``thfr`` and of every command, in one process: what is not imported by the last was not by any."""
    script = (
        "import sys; from thfr.cli import main\n"
        "for command in ([], *([name] for name in sys.argv[1:])):\n"
        "    try: main([*command, '--help'])\n"
        "    except SystemExit as ended: assert ended.code == 0\n"
        "    heavy = {'torch', 'timm', 'numpy', 'thfr_ext', 'matplotlib', 'scipy'} & set(sys.modules)\n"
        "    assert not heavy, (command, heavy)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, *COMMANDS], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("usage: thfr ") == 1 + len(COMMANDS)
    assert all(command in done.stdout for command in COMMANDS)


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
        ["evaluate", "--maps", ".", "--maps-out", "x"],
        ["evaluate", "--maps", "."],
        ["evaluate", "--maps", ".", "--dataset", "nothing", "--data", ".", "--category", "x", "--out", "y"],
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


def test_json_of_a_failure_says_why(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for error, code, said in (
        (InputError("doctor: no such folder: x"), 2, "no such folder: x"),
        (RuntimeError("boom"), 1, "RuntimeError: boom (THFR_DEBUG=1 shows where)"),
        (KeyboardInterrupt(), 130, "interrupted"),
    ):
        assert run_as_doctor(monkeypatch, raising(error), "--json") == code
        captured = capsys.readouterr()
        assert json.loads(captured.out) == {"error": said}
        assert captured.err == f"thfr doctor: error: {said}\n"


def test_problems_are_told_beside_the_result(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def run(args: argparse.Namespace) -> Result:
        return Result("done", {"done": True}, 2, "one file is broken")

    assert run_as_doctor(monkeypatch, run, "--json") == 2
    captured = capsys.readouterr()
    assert json.loads(captured.out) == {"done": True}
    assert captured.err == "thfr doctor: error: one file is broken\n"


SAY = (  # a command that says something everywhere, with a name that is not UTF-8
    "import sys; from thfr.cli import app, doctor; from thfr.cli.output import Result\n"
    "def run(args):\n"
    "    print('working', file=sys.stderr)\n"
    "    return Result('Gr\\udcf6\\u00df ' * 20000, {'name': 'Gr\\udcf6\\u00df'}, 0, 'Gr\\udcf6\\u00df')\n"
    "doctor.run = run\n"
    "sys.exit(app.main(['doctor', *sys.argv[1:]]))\n"
)


@pytest.mark.parametrize(
    ("redirection", "code"),
    [
        ("| true", 1),
        (">&-", 0),
        ("2>&-", 0),
        (">&- 2>&-", 0),
        ("--json >&-", 0),
        ("2>&1 >/dev/null | true", None),
    ],
)
def test_streams_that_are_closed_are_no_traceback(redirection: str, code: int | None) -> None:
    """None: stderr's reader may go before anything is said to it, or after."""
    shell = f'set -o pipefail; "{sys.executable}" -c "$0" {redirection}; exit ${{PIPESTATUS[0]}}'
    done = subprocess.run(["bash", "-c", shell, SAY], capture_output=True, text=True, check=False)
    assert done.returncode in ((0, 1) if code is None else (code,)), done
    assert "Traceback" not in done.stderr
    assert "Exception" not in done.stderr


@pytest.mark.parametrize("encoding", ["ascii", "cp1252", "utf-8"])
def test_every_encoding_can_say_every_name(encoding: str) -> None:
    environment = {**os.environ, "PYTHONIOENCODING": encoding}
    for options in ([], ["--json"]):
        done = subprocess.run(
            [sys.executable, "-c", SAY, *options], capture_output=True, env=environment, check=False
        )
        assert done.returncode == 0, done.stderr
        assert b"Gr\\udcf6" in done.stdout
    assert json.loads(done.stdout) == {"name": "Gr\udcf6\u00df"}
