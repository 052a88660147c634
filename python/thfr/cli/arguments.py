"""What the commands' parsers have in common."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

from thfr.cli.output import Result

Commands = Any  # argparse's type of `add_subparsers`, which has no public name

DEVICES = ("auto", "cpu", "cuda")


class _Formatter(argparse.ArgumentDefaultsHelpFormatter, argparse.RawDescriptionHelpFormatter):
    """Shows defaults where there are any, and leaves the line breaks of the descriptions alone."""

    def _get_help_string(self, action: argparse.Action) -> str | None:
        if action.default is None or action.default is False:
            return action.help
        return super()._get_help_string(action)


def add_command(
    commands: Commands,
    name: str,
    run: Callable[[argparse.Namespace], Result],
    *,
    help: str,
    description: str,
    epilog: str = "",
) -> argparse.ArgumentParser:
    """Add a command that ``run`` carries out, with its ``--json``."""
    parser: argparse.ArgumentParser = commands.add_parser(
        name,
        help=help,
        description=description,
        epilog=epilog,
        formatter_class=_Formatter,
        allow_abbrev=False,
    )
    parser.set_defaults(run=run, parser=parser)
    parser.add_argument(
        "--json", action="store_true", help="end stdout with one JSON object, progress goes to stderr"
    )
    return parser


def add_device(parser: argparse.ArgumentParser, default: str = "auto") -> None:
    parser.add_argument(
        "--device",
        choices=DEVICES,
        default=default,
        help="where to compute; auto takes CUDA where there is one",
    )


def add_precision(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--precision",
        choices=("fp32", "fp16", "bf16"),
        default="fp32",
        help="what the networks compute in: fp32, bf16 or, on CUDA, fp16 (default: fp32)",
    )


def existing_folder(text: str) -> Path:
    """argparse type: a folder that is there."""
    path = Path(text)
    if not path.is_dir():
        raise argparse.ArgumentTypeError(f"{'not a folder' if path.exists() else 'no such folder'}: {text}")
    return path


def positive(text: str) -> int:
    """argparse type: an integer of at least 1."""
    return _at_least(1, text)


def not_negative(text: str) -> int:
    """argparse type: an integer of at least 0."""
    return _at_least(0, text)


def share(text: str) -> float:
    """argparse type: a number from 0 to below 1."""
    return _number(text, "a share from 0 to below 1", lambda value: 0 <= value < 1)


def rate(text: str) -> float:
    """argparse type: a number above 0 and below 1."""
    return _number(text, "a rate above 0 and below 1", lambda value: 0 < value < 1)


def _number(text: str, expected: str, fits: Callable[[float], bool]) -> float:
    try:
        value = float(text)
    except ValueError:
        value = float("nan")
    if not fits(value):
        raise argparse.ArgumentTypeError(f"expected {expected}, got {text!r}")
    return value


def _at_least(least: int, text: str) -> int:
    try:
        number = int(text)
    except ValueError:
        number = least - 1
    if number < least:
        raise argparse.ArgumentTypeError(f"expected an integer >= {least}, got {text!r}")
    return number
