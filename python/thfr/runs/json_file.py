"""JSON objects in files, read so that whatever is in the file ends in one clear error."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from thfr.errors import InputError


def read_object(path: Path, caller: str, hint: str = "") -> dict[str, Any]:
    """The JSON object in a file.

    Args:
        caller: with which the error begins.
        hint: with which it ends: what to do about it.

    Raises:
        InputError: the file is missing, cannot be read, or is not one JSON object of finite numbers.
    """
    try:
        values = json.loads(path.read_text(encoding="utf-8"), parse_constant=_refuse)
        if not isinstance(values, dict):
            raise ValueError(f"expected an object, got {type(values).__name__}")
    except (OSError, ValueError, RecursionError) as error:
        said = f"{type(error).__name__}: {error}" if isinstance(error, RecursionError) else error
        raise InputError(f"{caller}: {path} cannot be read: {said}{hint and f'; {hint}'}") from error
    return values


def _refuse(constant: str) -> float:
    raise ValueError(f"{constant} is not JSON")
