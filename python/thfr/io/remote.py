"""Images in object stores and archives, by fsspec: ``s3://``, ``gs://``, ``memory://``, ``zip://...::...``."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from thfr.errors import InputError
from thfr.extras import require
from thfr.io.listing import IMAGE_SUFFIXES
from thfr.io.names import printable


def is_url(source: object) -> bool:
    """Whether a source is a URL, not a path; a drive letter is no protocol."""
    head, found, _ = str(source).partition("://")
    return bool(found) and len(head) > 1


def filesystem(url: str) -> tuple[Any, str]:
    """The file system of a URL, and the path in it.

    Raises:
        InputError: fsspec, or what it needs for this protocol, is not installed.
    """
    fsspec = require("predict: a URL", "remote", "fsspec")
    try:
        return fsspec.core.url_to_fs(url)  # type: ignore[no-any-return]
    except (ImportError, OSError, ValueError) as error:
        raise InputError(f"predict: cannot list {printable(url)}: {error}") from error


def list_remote(url: str) -> tuple[Any, str, list[str]]:
    """The file system, the folder in it, and the images below that folder, sorted.

    Raises:
        InputError: fsspec, or what it needs for this protocol, is not installed; nothing can be listed; no
            image is there.
    """
    system, root = filesystem(url)
    try:
        found = sorted(path for path in system.find(root) if Path(path).suffix.lower() in IMAGE_SUFFIXES)
    except (ImportError, OSError, ValueError) as error:
        raise InputError(f"predict: cannot list {printable(url)}: {error}") from error
    if not found:
        raise InputError(f"predict: no image ({' '.join(IMAGE_SUFFIXES)}) in {printable(url)}")
    return system, root, found


def fetched(system: Any, paths: list[str], at_once: int) -> Iterator[list[tuple[str, Path | InputError]]]:
    """Some images after others as files, which go when the next ones come: pairs of the path in the store and
    the file, or why it could not be fetched.
    """
    for start in range(0, len(paths), at_once):
        with tempfile.TemporaryDirectory(prefix="thfr-") as folder:
            batch: list[tuple[str, Path | InputError]] = []
            for number, path in enumerate(paths[start : start + at_once]):
                file = Path(folder) / f"{number}{Path(path).suffix.lower()}"
                try:
                    system.get_file(path, str(file))
                    batch.append((path, file))
                except OSError as error:
                    batch.append((path, InputError(f"predict: cannot fetch {printable(path)}: {error}")))
            yield batch
