"""The ways that a search goes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import nullcontext

import pytest
from support.device import emulation
from support.retrieval_cases import WAYS, Way, take


@pytest.fixture(params=WAYS)
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Way]:
    name, queries, path = request.param
    with nullcontext() if path is None else emulation(int(name[-1])):
        if path is not None:
            take(path, monkeypatch)
        yield Way(name, queries)
