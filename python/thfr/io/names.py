"""File names as other languages take them: terminals, UTF-8 files, spreadsheets.

A name on Linux is bytes. Python shows undecodable ones as lone surrogates, which no UTF-8 writer accepts, and
a name may hold newlines and terminal escapes. Results keep the file itself untouched; only what is *written
about it* is escaped.
"""

from __future__ import annotations

import csv
import hashlib
import io
import os
from collections.abc import Iterable
from pathlib import PurePosixPath
from typing import Any

_LONGEST = 255  # bytes of one name, on every common file system
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


def storable(name: str | os.PathLike[str]) -> str:
    r"""``name`` as text that UTF-8 can hold: a byte that is not UTF-8 becomes ``\xf6``; for JSON, CSV,
    HTML.
    """
    text = os.fspath(name)
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def printable(name: str | os.PathLike[str], encoding: str | None = "utf-8") -> str:
    r"""``name`` for a terminal or a message: newlines, escapes, bidirectional marks and undecodable bytes
    show as ``\n``, ``\x1b``, ``\u202e``, ``\xf6``; so does what ``encoding`` (``sys.stdout.encoding``) cannot
    say.
    """
    text = "".join(
        letter if letter.isprintable() else letter.encode("unicode_escape").decode("ascii")
        for letter in storable(name)
    )
    return text.encode(encoding or "ascii", "backslashreplace").decode(encoding or "ascii")


def csv_cell(value: Any) -> Any:
    """A text as a cell that no spreadsheet takes for a formula: ``=cmd()`` becomes ``'=cmd()``; anything else
    as it is.
    """
    if not isinstance(value, (str, os.PathLike)):
        return value
    cell = storable(value)
    return f"'{cell}" if cell.startswith(_FORMULA) else cell


def csv_text(lines: Iterable[Iterable[Any]]) -> str:
    """Lines of cells, the head among them, as CSV; see :func:`csv_cell`."""
    buffer = io.StringIO()
    csv.writer(buffer, lineterminator="\n").writerows(map(csv_cell, line) for line in lines)
    return buffer.getvalue()


def result_name(name: str, suffix: str) -> str:
    """``name + suffix``, each of its ``/``-separated parts at most 255 bytes long: a part that is longer
    keeps its beginning and gets 12 digits of its SHA-256, so that two long names stay apart. So does a part
    that means the folder above: names in archives and stores are no paths.
    """
    parts = list(PurePosixPath(name).parts)
    endings = [""] * (len(parts) - 1) + [suffix]
    return "/".join(_fitted(part, ending) for part, ending in zip(parts, endings, strict=True))


def _fitted(part: str, ending: str) -> str:
    raw = os.fsencode(part)
    if len(raw) + len(ending) <= _LONGEST and part != "..":
        return part + ending
    tail = f"~{hashlib.sha256(raw).hexdigest()[:12]}{ending}"
    return raw[: _LONGEST - len(tail)].decode("utf-8", "ignore") + tail
