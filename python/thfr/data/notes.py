"""Notes about many files, in few lines."""

from __future__ import annotations

import re
from collections.abc import Iterable


def gathered(notes: Iterable[tuple[str, str]], shown: int = 3) -> list[str]:
    """One line for each kind of note: ``palette expanded to RGB: a.png, b.png, c.png and 7 more``.

    ``notes`` are pairs (file, note). Notes that differ in their numbers only are one kind; the line has the
    text of the first.
    """
    kinds: dict[str, tuple[str, list[str]]] = {}
    for file, note in notes:
        kinds.setdefault(re.sub(r"\d[\d.,]*", "#", note), (note, []))[1].append(file)
    return [
        f"{note}: {', '.join(files[:shown])}"
        + (f" and {len(files) - shown} more" if len(files) > shown else "")
        for note, files in kinds.values()
    ]
