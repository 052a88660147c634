"""The file of the figures, ``metrics.json``."""

from __future__ import annotations

from pathlib import Path

from thfr.errors import InputError
from thfr.io import atomic_write_json


def remove_figures(path: Path) -> None:
    """Make sure that figures can be written to a file, and that none of an earlier call stay if this one
    fails.

    Raises:
        InputError: they cannot.
    """
    if path.is_dir():
        raise InputError(f"evaluate: out must be a file to write, got the folder {path}")
    try:
        path.unlink(missing_ok=True)
        atomic_write_json(path, {})
        path.unlink()
    except OSError as error:
        raise InputError(f"evaluate: cannot write {path} ({error}); say where: --out FILE") from error
