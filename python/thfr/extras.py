"""Packages of the extras, asked for where they are used."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from thfr.errors import InputError


def require(user: str, extra: str, *packages: str) -> Any:
    """Import optional packages before anything else is done; gives the last of them. ``user``: what needs
    them, with which the error begins.

    Raises:
        InputError: one is not installed, or cannot be imported; says how to install it.
    """
    for name in packages:
        try:
            module = import_module(name)
        except ImportError as error:
            why = "" if isinstance(error, ModuleNotFoundError) else f" ({error})"
            raise InputError(f"{user} needs {name}{why}: pip install thfr-ext[{extra}]") from error
    return module
