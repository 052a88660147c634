"""How benchmarks write what they measured: JSON with a record a line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any


def write_records(path: Path, value: Any) -> None:
    """Through a temporary file: `path` is never half-written."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(".tmp")
    temporary.write_text(as_text(value) + "\n", encoding="utf-8")
    temporary.replace(path)


def as_text(value: Any, indent: int = 0) -> str:
    """Records are the objects of a list: each has a line, and so has every value without records."""
    if not _has_records(value):
        return json.dumps(value)
    if isinstance(value, dict):
        opening, closing = "{}"
        lines = [f"{json.dumps(name)}: {as_text(one, indent + 1)}" for name, one in value.items()]
    else:
        opening, closing = "[]"
        lines = [json.dumps(one) for one in value]
    margin = "\n" + " " * indent
    return opening + ",".join(f"{margin} {line}" for line in lines) + margin + closing


def _has_records(value: Any) -> bool:
    if isinstance(value, dict):
        return any(map(_has_records, value.values()))
    return isinstance(value, list) and any(isinstance(one, dict) for one in value)
