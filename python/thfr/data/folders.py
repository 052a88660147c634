"""Looking at the folders of a data set, and saying what is there."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from thfr.errors import InputError
from thfr.io import printable


def subfolders(folder: Path) -> list[Path]:
    """The folders in ``folder``, sorted by name; dot-folders are left out."""
    return sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))


def describe(folder: Path) -> str:
    """What a folder holds, in a few words, for error messages."""
    if not folder.is_dir():
        return "a file" if folder.exists() else "nothing (it does not exist)"
    return quoted_list([path.name for path in subfolders(folder)], "no folder")


def quoted_list(names: Sequence[str], empty: str, limit: int = 20) -> str:
    if not names:
        return empty
    shown = ", ".join(printable(name) for name in names[:limit])
    return shown + (f" and {len(names) - limit} more" if len(names) > limit else "")


def as_folder(path: str | os.PathLike[str], caller: str) -> Path:
    """``path`` made absolute.

    Raises:
        InputError: it is not a folder.
    """
    folder = Path(path).expanduser().resolve()
    if not folder.is_dir():
        state = "a file" if folder.exists() else "which does not exist"
        raise InputError(f"{caller}: expected a folder of data, got {printable(path)} ({state})")
    return folder


def named(folder: Path, category: str) -> Path:
    """The folder of that name in ``folder``.

    Raises:
        InputError: there is none; those found are listed.
    """
    present = [path.name for path in subfolders(folder)]
    if category not in present:  # also keeps "", ".." and paths out
        found = quoted_list(present, "none")
        raise InputError(f"load_dataset: no category {category!r} in {printable(folder)}; found {found}")
    return folder / category
