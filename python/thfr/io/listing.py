"""Which files of a folder are images, and which are not looked at.

A product that nobody looks at must be named: links to folders are followed, a folder that cannot be read is
an error, and files that are no image are listed so that commands can count and name them.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import features

from thfr.errors import InputError
from thfr.io.names import printable

_ALWAYS = {
    ".png": "PNG", ".apng": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG", ".jpe": "JPEG", ".jfif": "JPEG",
    ".mpo": "JPEG", ".bmp": "BMP", ".dib": "DIB", ".tif": "TIFF", ".tiff": "TIFF", ".gif": "GIF",
    ".pgm": "PPM", ".ppm": "PPM", ".pnm": "PPM", ".pbm": "PPM", ".pfm": "PPM",
}  # fmt: skip
_BY_CODEC = {
    "webp": {".webp": "WEBP"},
    "jpg_2000": dict.fromkeys((".jp2", ".j2k", ".jpf", ".jpx", ".j2c", ".jpc"), "JPEG2000"),
    "avif": {".avif": "AVIF"},
}


def _formats() -> dict[str, str]:
    """Suffix -> Pillow's name of the format; without the formats that this Pillow was built without."""
    found = dict(_ALWAYS)
    for codec, suffixes in _BY_CODEC.items():
        known = codec in features.modules or codec in features.codecs  # avif: from Pillow 11.3
        if known and features.check(codec):
            found |= suffixes
    return found


FORMATS = _formats()
IMAGE_SUFFIXES = tuple(FORMATS)
"""What is read, lower case; ``.heic`` is not, for want of a decoder in Pillow."""

_LITTER = {"thumbs.db", "desktop.ini", "ehthumbs.db", "icon\r"}  # systems leave them; beside all dot-files


@dataclass(frozen=True)
class Listing:
    """What a folder holds. Both lists are sorted."""

    images: tuple[Path, ...]
    ignored: tuple[Path, ...]
    """Files that are not read: no image by their suffix, or no regular file."""
    repeated: tuple[Path, ...]
    """Links to folders whose images are listed already (loops, too)."""

    def notes(self, folder: Path, limit: int = 5) -> list[str]:
        """For ``"notes"`` in JSON: how many files were not looked at, and the names of ``limit`` of them."""
        found = []
        for paths, why in (
            (self.ignored, "not read (no image by its suffix)"),
            (self.repeated, "a link to a folder that is read already"),
        ):
            if paths:
                names = ", ".join(printable(os.path.relpath(path, folder)) for path in paths[:limit])
                more = f" and {len(paths) - limit} more" if len(paths) > limit else ""
                found.append(f"{len(paths)} file(s) or folder(s) in {printable(folder)} {why}: {names}{more}")
        return found


def find_images(folder: str | os.PathLike[str], recursive: bool = False) -> Listing:
    """The images of ``folder`` by suffix (:data:`IMAGE_SUFFIXES`, any case) and what else lies there.

    Links to folders are followed, every folder is read once. Dot-files, dot-folders and what systems leave
    (``Thumbs.db``) count as nothing. A broken link with an image's suffix is listed: reading it names it.

    Raises:
        InputError: ``folder`` is no folder, or it or folders in it cannot be read (all are named).
    """
    base = Path(folder)
    if not base.is_dir():
        raise InputError(f"list_images: expected a folder, got {printable(base)} ({_what_is(base)})")
    images: list[Path] = []
    ignored: list[Path] = []
    repeated: list[Path] = []
    unreadable: list[str] = []
    seen: set[tuple[int, int]] = set()
    pending = [base]  # real folders first, so that their own name is the one that is listed
    links: list[Path] = []
    while pending or links:
        current = pending.pop() if pending else links.pop(0)
        try:
            status = current.stat()
            if (status.st_dev, status.st_ino) in seen:
                repeated.append(current)
                continue
            seen.add((status.st_dev, status.st_ino))
            with os.scandir(current) as entries:
                for entry in sorted(entries, key=lambda entry: entry.name):
                    path = current / entry.name
                    if entry.name.startswith(".") or entry.name.lower() in _LITTER:
                        continue
                    link = entry.is_symlink()  # other entries say what they are without a call of stat
                    if path.is_dir() if link else entry.is_dir():
                        if recursive:
                            (links if link else pending).append(path)
                    elif path.suffix.lower() in FORMATS and (link or entry.is_file()):
                        images.append(path)
                    else:
                        ignored.append(path)
        except OSError as error:
            unreadable.append(f"{printable(current)}: {error.strerror or error}")
    if unreadable:
        raise InputError(f"list_images: cannot read {len(unreadable)} folder(s): {'; '.join(unreadable)}")
    return Listing(tuple(sorted(images)), tuple(sorted(ignored)), tuple(sorted(repeated)))


def list_images(folder: str | os.PathLike[str], recursive: bool = False) -> list[Path]:
    """The ``images`` of :func:`find_images`.

    Raises:
        InputError: as :func:`find_images`.
    """
    return list(find_images(folder, recursive).images)


def _what_is(path: Path) -> str:
    return "a file" if path.exists() else "which does not exist"


def images_of(
    caller: str, source: str | os.PathLike[str] | Sequence[str | os.PathLike[str]], notes: list[str]
) -> list[Path]:
    """A list's files, a file, or the images of a folder with its sub-folders, where ``notes`` takes what is
    not looked at. InputError if there is none.
    """
    if not isinstance(source, (str, os.PathLike)):
        paths = [Path(path) for path in source]
    elif Path(source).is_dir():
        listing = find_images(source, recursive=True)
        paths = list(listing.images)
        notes += listing.notes(Path(source))
    else:
        paths = [Path(source)]
    if not paths:
        raise InputError(f"{caller}: no image in {source!r}")
    return paths
