"""schemathesis: requests made from the service's own OpenAPI, right and wrong ones."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from .conftest import Brightness, encoded, picture

schemathesis = pytest.importorskip("schemathesis", reason="no schemathesis (pip install schemathesis)")

from hypothesis import HealthCheck, given, settings  # noqa: E402

OPERATIONS = (
    ("POST", "/v1/inspect"), ("POST", "/v1/inspect/batch"), ("GET", "/v1/models"), ("GET", "/healthz"),
    ("GET", "/metrics"), ("GET", "/v1/inspections"), ("GET", "/v1/inspections/{number}/picture"),
    ("POST", "/v1/inspections/{number}/feedback"), ("GET", "/v1/models/{name}/scores"),
    ("POST", "/v1/models/{name}/threshold"), ("POST", "/v1/models/{name}/teach"),
    ("POST", "/v1/models/{name}/swap"),
)  # fmt: skip

NEVER_WRONG = {"/v1/models", "/healthz", "/metrics", "/v1/models/{name}/scores"}  # any string is a name
CHECKS = (
    "not_a_server_error", "status_code_conformance", "content_type_conformance",
    "response_schema_conformance", "response_headers_conformance",
)  # fmt: skip


@pytest.fixture
def client(tmp_path: Path, client_of: Callable[..., Any]) -> Any:
    from thfr.deploy.inspections import InspectionLog
    from thfr.deploy.serve.swapping import Swapper
    from thfr.deploy.serve.teaching import Teacher

    log = InspectionLog(f"sqlite:///{tmp_path / 'line.db'}", originals=2)
    teacher, swapper = Teacher(log, tmp_path / "taught"), Swapper({}, tmp_path / "taught", log)
    client = client_of(Brightness(), log=log, teacher=teacher, swapper=swapper, hosts=("*",))
    client.post("/v1/inspect", content=encoded(picture(spot=255)))
    return client


def test_the_operations_are_these(client: Any) -> None:
    paths = client.get("/openapi.json").json()["paths"]
    described = {(method.upper(), path) for path, methods in paths.items() for method in methods}
    assert described == set(OPERATIONS)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("mode", "method", "path"),
    [("positive", *operation) for operation in OPERATIONS]
    + [("negative", *operation) for operation in OPERATIONS if operation[1] not in NEVER_WRONG],
)
def test_answers_are_as_described(client: Any, mode: str, method: str, path: str) -> None:
    schema = schemathesis.openapi.from_asgi("/openapi.json", client.app)
    operation = schema[path][method]
    statuses: set[int] = set()

    @settings(
        max_examples=15, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True,
        database=None,
    )  # fmt: skip
    @given(case=operation.as_strategy(generation_mode=schemathesis.GenerationMode(mode)))
    def check(case: Any) -> None:
        response = case.call()
        statuses.add(response.status_code)
        case.validate_response(response, checks=[getattr(schemathesis.checks, name) for name in CHECKS])

    check()
    assert statuses
