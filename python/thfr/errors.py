"""Errors that a user of ``thfr`` can mend."""

from __future__ import annotations

from typing import Any


class InputError(ValueError):
    """Something the user gave (a path, an option, a file's content) is wrong.

    The message begins with the command or function, names what was expected and what came.
    The command line turns it into exit code 2.
    """


def located(error: Any) -> str:
    """The problems that pydantic's ``ValidationError`` lists, each behind its field."""
    return "; ".join(f"{'.'.join(map(str, one['loc']))}: {one['msg']}" for one in error.errors())
