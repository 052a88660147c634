"""Bind, serve, and shut down in order."""

from __future__ import annotations

import ipaddress
import re
from pathlib import Path

import uvicorn
from fastapi import FastAPI

from thfr.errors import InputError

_SHORTEST = 16


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach a service bound there."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def read_token(path: Path) -> str:
    """The token in a file: its only line.

    Raises:
        InputError: no such file, or a token that is short or not visible ASCII.
    """
    try:
        token = path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"serve: --token-file: cannot read {path}: {error}") from error
    if len(token) < _SHORTEST or not re.fullmatch(r"[!-~]+", token):
        raise InputError(
            f"serve: --token-file: expected one line of at least {_SHORTEST} visible ASCII characters "
            f"without spaces in {path}, got {len(token)} characters"
        )
    return token


def serve(app: FastAPI, host: str, port: int) -> None:
    """Serve until SIGINT or SIGTERM; what was taken by then is answered.

    Raises:
        OSError, SystemExit: the address cannot be bound.
    """
    uvicorn.run(app, host=host, port=port, log_level="warning", server_header=False, timeout_keep_alive=15)
