"""Images in tar archives, read as a stream: WebDataset's shards, local or below a URL."""

from __future__ import annotations

import os
import tarfile
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Set
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any

from thfr.errors import InputError
from thfr.io.listing import IMAGE_SUFFIXES
from thfr.io.names import printable, storable

_MOST = 1 << 30  # bytes of an image that are taken into memory
_SUFFIXES = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz")
Found = list[tuple[str, Path | InputError]]
"""Names of images, and the file of each, or why there is none."""


def is_archive(source: object) -> bool:
    """Whether a source is a tar archive, or several (``shards/part-*.tar``), by its name; not a URL that
    chains file systems (``tar://...::...``), which fsspec lists itself.
    """
    text = str(source)
    return text.lower().endswith(_SUFFIXES) and "::" not in text and not Path(text).is_dir()


def archived(
    source: str | os.PathLike[str], done: Set[str], at_once: int, key: Callable[[str], str] = str
) -> Iterator[Found]:
    """The images of tar archives in their order, some at a time as files, which go when the next ones come.

    Archives are read once, from front to end, and never unpacked as a whole. A name is the member's, behind
    that of the archive if the source has a wildcard; the second member of a name gets ``#2`` behind it. What
    is no image by its suffix, and names with a dot in front, are passed over; a link is not followed.

    Args:
        done: names that are not wanted, as ``key`` writes them.

    Raises:
        InputError: no such archive; one that is damaged, said after the images in front of the damage.
    """
    found: Found = []
    damage: InputError | None = None
    members = _members(source)
    with tempfile.TemporaryDirectory(prefix="thfr-") as folder:
        while damage is None:
            try:
                name, content = next(members, (None, b""))
            except InputError as error:
                name, damage = None, error
            if name is not None and key(name) not in done:
                found.append((name, _stored(name, content, Path(folder), len(found))))
            if found and (name is None or len(found) == at_once):
                yield found
                found = []
            if name is None:
                break
    if damage is not None:
        raise damage


def _stored(name: str, content: bytes | None, folder: Path, number: int) -> Path | InputError:
    if content is None:
        return InputError(f"predict: {printable(name)}: expected a file of at most {_MOST:,} bytes")
    file = folder / f"{number}{PurePosixPath(name.partition('#')[0]).suffix.lower()}"
    file.write_bytes(content)
    return file


def _members(source: str | os.PathLike[str]) -> Iterator[tuple[str, bytes | None]]:
    """Each image's name and content, None for a link or too large a file."""
    several, images = "*" in str(source), 0
    for path, opened in _opened(str(source)):
        seen: Counter[str] = Counter()
        try:
            with opened() as raw, tarfile.open(fileobj=raw, mode="r|*") as tar:
                for info in tar:
                    tar.members = []  # type: ignore[attr-defined]  # it would keep all of them
                    member = PurePosixPath(info.name)
                    if info.isdir() or not _is_image(member):
                        continue
                    shown = member.as_posix()
                    seen[shown] += 1
                    again = f"#{seen[shown]}" if seen[shown] > 1 else ""
                    name = f"{PurePosixPath(path).name}/{shown}" if several else shown
                    images += 1
                    content = tar.extractfile(info) if info.isfile() and info.size <= _MOST else None
                    yield storable(name + again), None if content is None else content.read()
        except (tarfile.TarError, OSError, EOFError) as error:
            raise InputError(f"predict: cannot read {printable(path)}: {error}") from error
    if not images:
        raise InputError(f"predict: no image ({' '.join(IMAGE_SUFFIXES)}) in {printable(source)}")


def _is_image(member: PurePosixPath) -> bool:
    hidden = any(part.startswith(".") and part != ".." for part in member.parts)
    return not hidden and member.suffix.lower() in IMAGE_SUFFIXES


def _opened(source: str) -> list[tuple[str, Callable[[], Any]]]:
    """The archives of a path or URL with or without a wildcard, sorted, and what opens each."""
    from thfr.io.remote import filesystem, is_url

    found: list[tuple[str, Callable[[], Any]]]
    if is_url(source):
        system, root = filesystem(source)
        try:
            paths = sorted(system.glob(root)) if "*" in source else [root]
        except (OSError, ValueError) as error:
            raise InputError(f"predict: cannot list {printable(source)}: {error}") from error
        found = [(path, partial(system.open, path, "rb")) for path in paths]
    else:
        place, name = Path(source).parent, Path(source).name
        paths = sorted(map(str, place.glob(name))) if "*" in name else [source]
        found = [(path, partial(open, path, "rb")) for path in paths]
    if not found:
        raise InputError(f"predict: no archive is named {printable(source)}")
    return found
