"""Rows as JSON to an HTTP endpoint, one POST each."""

from __future__ import annotations

import http.client
import urllib.error
import urllib.parse
import urllib.request
from typing import Any

from thfr.deploy.sinks.sender import Failed, Refused
from thfr.errors import InputError

_SECONDS = 10.0
_LATER = {408, 425, 429}  # of the 4xx those that ask to come again


class _Stays(urllib.request.HTTPRedirectHandler):
    """A redirected POST would become a GET without the row."""

    def redirect_request(self, *_: Any) -> None:
        return None


class Webhook:
    """Any 2xx answer means taken; a redirect, and 4xx but for 408, 425 and 429, means never.

    Args:
        url: http or https, without user and password.
        token: sent as ``Authorization: Bearer``.

    Raises:
        InputError: another kind of URL.
    """

    def __init__(self, url: str, token: str | None = None) -> None:
        parts = urllib.parse.urlsplit(url)
        if parts.scheme not in {"http", "https"} or not parts.hostname or parts.username or parts.password:
            raise InputError(
                f"--webhook: expected http(s)://HOST/... without a password, got {_shown(parts)}"
            )
        self._url, self._token = url, token
        self.name = f"webhook {parts.scheme}://{parts.netloc}{parts.path}"  # a query may hold a secret
        self._opener = urllib.request.build_opener(_Stays())

    def deliver(self, body: bytes) -> None:
        headers = {"Content-Type": "application/json", "User-Agent": "thfr"}
        if self._token is not None:
            headers["Authorization"] = f"Bearer {self._token}"
        request = urllib.request.Request(self._url, body, headers, method="POST")
        try:
            with self._opener.open(request, timeout=_SECONDS) as answer:
                answer.read(1 << 16)
        except urllib.error.HTTPError as error:
            with error:
                status = error.code
            said = f"status {status}"
            if 300 <= status < 500 and status not in _LATER:
                raise Refused(said) from None
            raise Failed(said) from None
        except http.client.HTTPException as error:
            raise ConnectionError(f"{type(error).__name__}: {error}") from error

    def close(self) -> None:
        """Nothing is kept open."""


def _shown(parts: urllib.parse.SplitResult) -> str:
    return f"{parts.scheme or '?'}://{parts.hostname or '?'}"
