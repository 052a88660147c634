"""Files written atomically (complete or not there at all), and their digests."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
import sys
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from thfr.errors import InputError

_BLOCK = 1 << 16  # bytes; with less the last write failed for want of room


@contextmanager
def atomic_path(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield a temporary path beside ``path``; it becomes ``path`` at the end, and is removed on failure.

    The block may write a file or make a folder there. A file replaces an older file; a folder only takes the
    place of nothing or of an empty folder. The temporary name keeps the suffix (writers choose formats by it)
    and starts with a dot. Missing parent folders are made, and removed again on failure.

    Raises:
        InputError: a parent folder cannot be made.
        OSError: the final rename is refused (then ``path`` is as it was), or the disk is full.
        FileNotFoundError: the block wrote nothing.
    """
    target = Path(path)
    made = [folder for folder in target.parents if not folder.exists()]
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"atomic_path: cannot make the folder {target.parent}: {error}") from error
    suffix = target.suffix if len(target.suffix) <= 16 else ""
    stem = target.stem[:40]  # a target of 255 bytes needs a temporary name that is no longer
    temporary = target.parent / f".{stem}.{uuid.uuid4().hex[:12]}{suffix}"
    try:
        yield temporary
        if not os.path.lexists(temporary):
            raise FileNotFoundError(f"atomic_path: nothing was written for {target}")
        temporary.replace(target)
    except BaseException as error:  # a keyboard interrupt must not leave the half-written file either
        full = isinstance(error, OSError) and _is_full(error, target.parent)
        if temporary.is_dir():
            shutil.rmtree(temporary, ignore_errors=True)
        else:
            temporary.unlink(missing_ok=True)
        with suppress(OSError):  # another writer's file may be in one by now
            for folder in made:
                folder.rmdir()
        if full:
            words = f"{os.strerror(errno.ENOSPC)}, {free_bytes(target.parent):,} bytes are free"
            raise OSError(errno.ENOSPC, words, str(target)) from error
        raise


def free_bytes(folder: Path) -> int:
    """Bytes free on the disk where ``folder`` is, or will be made; very many where it does not say."""
    there = next(path for path in (folder, *folder.absolute().parents) if path.is_dir())
    usage = shutil.disk_usage(there)
    return usage.free if usage.total else sys.maxsize


def _is_full(error: OSError, folder: Path) -> bool:
    # NumPy's writers say "... requested and ... written" without an error number
    numbers = (errno.ENOSPC, errno.EDQUOT)
    return error.errno in numbers or (error.errno is None and free_bytes(folder) < _BLOCK)


def atomic_write_text(path: str | os.PathLike[str], text: str) -> None:
    """Write ``text`` as UTF-8 with ``\\n`` line ends, completely or not at all."""
    with atomic_path(path) as temporary:
        temporary.write_bytes(text.encode("utf-8"))


def atomic_write_json(path: str | os.PathLike[str], value: Any) -> None:
    """Write ``value`` as indented JSON, completely or not at all.

    Raises:
        ValueError: the value holds a NaN or an infinity, which JSON cannot say.
    """
    atomic_write_text(path, json.dumps(value, indent=2, allow_nan=False) + "\n")


def file_sha256(path: str | os.PathLike[str]) -> str:
    """SHA-256 of a file's bytes, in hexadecimal digits.

    Raises:
        InputError: it cannot be read.
    """
    try:
        with Path(path).open("rb") as file:
            digest = hashlib.sha256()
            while block := file.read(1 << 20):
                digest.update(block)
    except OSError as error:
        raise InputError(f"file_sha256: cannot read {path}: {error}") from error
    return digest.hexdigest()
