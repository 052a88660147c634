"""Errors that a user of ``thfr`` can mend."""

from __future__ import annotations


class InputError(ValueError):
    """Something the user gave (a path, an option, a file's content) is wrong.

    The message begins with the command or function, names what was expected and what came.
    The command line turns it into exit code 2.
    """
