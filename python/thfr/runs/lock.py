"""A folder for one process at a time."""

from __future__ import annotations

import errno
import logging
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from thfr.errors import InputError
from thfr.runs import files

_LOGGER = logging.getLogger(__name__)
_POLL_SECONDS = 0.1
_BUSY = (errno.EACCES, errno.EAGAIN, errno.EDEADLK, errno.EWOULDBLOCK)


@contextmanager
def locked(folder: Path, command: str, patience: float = 0.0) -> Iterator[IO[str]]:
    """Keep ``folder``, which is made if need be, for this process while the block runs.

    The operating system drops the lock of a process that ends, by ``kill -9`` too. A child that inherits the
    file keeps it until it has ended as well. Where the file system knows no locks, a warning is logged.

    Args:
        command: with which the error begins.
        patience: seconds to wait for another process.

    Yields:
        The locked file.

    Raises:
        InputError: another process (or thread) keeps the folder, or no file can be made in it.
    """
    path = folder / files.LOCK
    deadline = time.monotonic() + patience
    try:
        folder.mkdir(parents=True, exist_ok=True)
        file = path.open("a")
        while not _lock(file) or not _is(file, path):  # its last holder may have removed it in between
            if _is(file, path):
                if time.monotonic() > deadline:
                    file.close()
                    raise InputError(f"{command}: another process is at work in {folder}")
                time.sleep(_POLL_SECONDS)
            file.close()
            file = path.open("a")
    except OSError as error:
        raise InputError(f"{command}: cannot write in {folder}: {error}") from error
    try:
        yield file
    finally:
        with suppress(OSError):  # Windows removes no file that is open
            path.unlink()
        file.close()


def _is(file: IO[str], path: Path) -> bool:
    """Whether the open file is still the one of that name."""
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except FileNotFoundError:
        return False


def _lock(file: IO[str]) -> bool:
    """Lock an open file without waiting; False if another process has it."""
    try:
        if sys.platform == "win32":
            import msvcrt

            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
        else:
            import fcntl

            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in _BUSY:
            return False
        _LOGGER.warning("%s: this file system knows no locks (%s): start nothing else here", file.name, error)
    return True
