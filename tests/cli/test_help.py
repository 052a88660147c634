"""``--help`` of every command."""

from __future__ import annotations

import re

import pytest
from thfr.cli import main
from thfr.cli.app import build_parser

COMMANDS = next(action for action in build_parser()._actions if action.dest == "command").choices


@pytest.mark.parametrize("command", ["", *COMMANDS])
def test_help(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main([command, "--help"] if command else ["--help"])
    assert ended.value.code == 0
    shown = capsys.readouterr().out
    assert re.match(rf"usage: thfr {command}", shown)
    assert "--help" in shown
    assert not re.search(r"%\(|==SUPPRESS==|None\)", shown)  # placeholders that were not filled in
