"""Packages of the extras, asked for where they are used."""

from __future__ import annotations

from importlib.util import find_spec

from thfr.errors import InputError


def require(command: str, *packages: str, extra: str = "serve") -> None:
    """Check that optional packages are installed, before anything else is done.

    Raises:
        InputError: one is not; says how to install it.
    """
    missing = [name for name in packages if find_spec(name) is None]
    if missing:
        raise InputError(f"{command}: needs {', '.join(missing)}: pip install thfr-ext[{extra}]")
