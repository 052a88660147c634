"""What a command hands back, and how it reaches the terminal."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Result:
    """What a command found: ``text`` for people, ``values`` for programs (``--json``), and the exit code."""

    text: str
    values: dict[str, Any] = field(default_factory=dict)
    exit_code: int = 0


def show(result: Result, as_json: bool) -> None:
    """Write the result to stdout: the text, or one line of JSON.

    Raises:
        ValueError: ``values`` holds a NaN or an infinity, which JSON cannot say.
    """
    print(json.dumps(result.values, allow_nan=False) if as_json else result.text)
    sys.stdout.flush()


def complain(command: str, message: str) -> None:
    """Write an error to stderr, behind the name of the command."""
    print(f"{command}: error: {message}", file=sys.stderr)
