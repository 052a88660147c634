"""What every request passes first: token and size of the body."""

from __future__ import annotations

import hmac
from collections.abc import Callable

from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

OPEN = frozenset({"/", "/page.css", "/page.js", "/healthz"})
"""Paths without secrets, which are answered without a token."""

_HEADERS = (
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cache-control", b"no-store"),
)


class Gate:
    """ASGI middleware: 401 without the token (compared in constant time), 413 for a body above the limit,
    whether its length is announced or not, and headers that keep browsers from guessing and storing.
    """

    def __init__(
        self, app: ASGIApp, token: str | None, max_bytes: int, refused: Callable[[int], None]
    ) -> None:
        self._app, self._max_bytes, self._refused = app, max_bytes, refused
        self._token = None if token is None else token.encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        if not self._allowed(scope["path"], headers):
            problem = JSONResponse(
                {"detail": "expected the token: Authorization: Bearer TOKEN"},
                401,
                {"WWW-Authenticate": "Bearer"},
            )
            self._refused(401)
            await problem(scope, receive, send)
            return
        announced = headers.get("content-length", "0")
        if announced.isdecimal() and int(announced[:20]) > self._max_bytes:
            self._refused(413)
            await JSONResponse({"detail": self._too_large()}, 413)(scope, receive, send)
            return
        taken = 0

        async def counted() -> Message:
            nonlocal taken
            message = await receive()
            taken += len(message.get("body", b""))
            if taken > self._max_bytes:
                raise HTTPException(413, self._too_large())
            return message

        async def guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", ()), *_HEADERS]
            await send(message)

        await self._app(scope, counted, guarded)

    def _allowed(self, path: str, headers: Headers) -> bool:
        if self._token is None or path in OPEN:
            return True
        scheme, _, given = headers.get("authorization", "").partition(" ")
        return scheme.lower() == "bearer" and hmac.compare_digest(given.strip().encode(), self._token)

    def _too_large(self) -> str:
        return f"expected a body of at most {self._max_bytes} bytes"
