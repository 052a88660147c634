"""The page at ``/``: three files, no build, nothing from other hosts."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from importlib.resources import files

from fastapi import FastAPI
from fastapi.responses import Response

_FILES = {"/": ("page.html", "text/html"), "/page.css": ("page.css", "text/css"),
          "/page.js": ("page.js", "text/javascript")}  # fmt: skip
_POLICY = (
    "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; "
    "img-src 'self' data: blob:; form-action 'none'; frame-ancestors 'none'; base-uri 'none'"
)


def add_page(app: FastAPI) -> None:
    """Add the page's routes, which are no part of the API."""
    for path, (name, kind) in _FILES.items():
        app.get(path, include_in_schema=False)(_giving(name, kind))


def _giving(name: str, kind: str) -> Callable[[], Awaitable[Response]]:
    text = files(__name__).joinpath(name).read_bytes()

    async def give() -> Response:
        return Response(text, media_type=kind, headers={"Content-Security-Policy": _POLICY})

    return give
