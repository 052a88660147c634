"""Secrets in files, so that no list of processes shows them."""

from __future__ import annotations

import re
from pathlib import Path

from thfr.errors import InputError

SHORTEST = 16
"""Characters of a token that keeps others out."""


def read_token(option: str, path: Path, shortest: int = SHORTEST) -> str:
    """The secret in the file of an option: its only line.

    Raises:
        InputError: no such file, or a token that is short or not visible ASCII.
    """
    try:
        token = path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{option}: cannot read {path}: {error}") from error
    if len(token) < shortest or not re.fullmatch(r"[!-~]+", token):
        raise InputError(
            f"{option}: expected one line of at least {shortest} visible ASCII characters "
            f"without spaces in {path}, got {len(token)} characters"
        )
    return token
