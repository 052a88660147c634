"""What a command hands back, and how it reaches the terminal."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from thfr.io import printable

if TYPE_CHECKING:
    from thfr.runs.threshold import Threshold


@dataclass(frozen=True)
class Result:
    """What a command found: ``text`` for people, ``values`` for programs (``--json``), and the exit code.

    ``problems``: what did not work although the command went on, for stderr.
    """

    text: str
    values: dict[str, Any] = field(default_factory=dict)
    exit_code: int = 0
    problems: str = ""


def open_streams() -> None:
    """Make stdout and stderr take whatever is written: one that is closed goes nowhere, and what its encoding
    cannot say, an undecodable file name say, is escaped.
    """
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:  # closed before the start
            nowhere = Path(os.devnull).open("w", encoding="utf-8", errors="backslashreplace")  # noqa: SIM115
            setattr(sys, name, nowhere)
        elif hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")


def close_broken_streams() -> None:
    """Write out what is left; a stream whose reader has gone, `head` say, must not complain at exit."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:
            with suppress(OSError, ValueError):
                os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def with_notes(text: str, notes: Iterable[str]) -> str:
    """The text with a line for each note."""
    return "\n".join([text, *(f"note: {printable(note)}" for note in notes)])


def in_words(threshold: Threshold | None, thresholds: Mapping[str, Threshold]) -> str:
    """A run's threshold, or those of its categories, a line each; empty without any."""
    if thresholds:
        return "\n".join(f"{printable(name)}: {one.in_words()}" for name, one in thresholds.items())
    return "" if threshold is None else threshold.in_words()


def show(result: Result, as_json: bool) -> None:
    """Write the result to stdout: the text, or one line of JSON.

    Raises:
        ValueError: ``values`` holds a NaN or an infinity, which JSON cannot say.
    """
    print(json.dumps(result.values, allow_nan=False) if as_json else result.text)
    sys.stdout.flush()


def complain(command: str, message: str) -> None:
    """Write an error to stderr, behind the name of the command."""
    with suppress(OSError):
        print(f"{command}: error: {message}", file=sys.stderr)
