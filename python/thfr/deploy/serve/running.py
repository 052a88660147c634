"""Bind, serve, and shut down in order."""

from __future__ import annotations

import ipaddress
import signal
import threading
from collections.abc import Callable

import uvicorn
from fastapi import FastAPI


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach a service bound there."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def serve(app: FastAPI, host: str, port: int, reload: Callable[[], None]) -> None:
    """Serve until SIGINT or SIGTERM; what was taken by then is answered.

    Args:
        reload: called on SIGHUP, where the system has it, on a thread of its own.

    Raises:
        OSError, SystemExit: the address cannot be bound.
    """
    if hasattr(signal, "SIGHUP"):
        signal.signal(signal.SIGHUP, lambda *_: threading.Thread(target=reload, daemon=True).start())
    uvicorn.run(app, host=host, port=port, log_level="warning", server_header=False, timeout_keep_alive=15)
