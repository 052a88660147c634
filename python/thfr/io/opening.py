"""Opening image files: only formats that file names here can mean, never an external program.

A format is chosen by content among those of :data:`thfr.io.listing.FORMATS`, so that PostScript named
``x.png`` starts nothing. The many exceptions of the decoders become one :class:`~thfr.errors.InputError` that
names the file.
"""

from __future__ import annotations

import os
import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from PIL import Image

from thfr.errors import InputError
from thfr.io.listing import FORMATS
from thfr.io.names import printable

# Everything Pillow and tifffile were seen to raise on damaged files; a broken PNG chunk is a SyntaxError.
DECODE_ERRORS = (
    OSError, SyntaxError, ValueError, EOFError, IndexError, KeyError, TypeError, MemoryError, OverflowError,
    RuntimeError, AttributeError, struct.error, zlib.error,
)  # fmt: skip


def what_is(path: Path) -> str:
    if path.is_dir():
        return "a folder"
    if path.is_file():
        return "a file"
    if path.exists():
        return "a pipe or device, not a file"
    return "a link to nothing" if path.is_symlink() else "which does not exist"


@contextmanager
def opened(path: str | os.PathLike[str], reader: str) -> Iterator[Image.Image]:
    """The file as Pillow's image, its header read; exceptions of the block are the file's, too."""
    file = Path(path)
    if not file.is_file():
        raise InputError(f"{reader}: expected an image file, got {printable(file)} ({what_is(file)})")
    if file.stat().st_size == 0:
        raise InputError(f"{reader}: cannot read {printable(file)}: the file is empty")
    try:
        with file.open("rb") as content, _identified(content, file) as image:
            yield image
    except InputError:
        raise
    except DECODE_ERRORS as error:
        why = printable(f"{type(error).__name__}: {error}")
        raise InputError(f"{reader}: cannot read {printable(file)}: {why}") from error


def _identified(content: Any, file: Path) -> Image.Image:
    """As ``Image.open(content, formats=...)``, but without its limit on pixels, which is a global variable of
    the whole process; :func:`thfr.io.decoding.decode` has its own.
    """
    Image.init()
    start = content.read(16)
    expected = FORMATS.get(file.suffix.lower())
    why = ""
    for name in dict.fromkeys([*([expected] if expected else []), *FORMATS.values()]):
        factory, accept = Image.OPEN[name]
        if accept is not None and accept(start) in (False, None):
            continue
        content.seek(0)
        try:
            # With a name Pillow maps raw TIFFs into memory, by a size that is wrong for orientations 5 to 8.
            return factory(content, "")
        except (SyntaxError, IndexError, TypeError, struct.error) as error:
            why = f" ({name}: {error})"
    raise OSError(f"its content is none of {', '.join(sorted(set(FORMATS.values())))}{why}")
