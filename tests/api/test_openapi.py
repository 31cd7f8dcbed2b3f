"""The OpenAPI document as its readers need it: complete, closed, and in the words of the code."""

import re
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final
from uuid import uuid4

import httpx2
import pytest
from fastapi import FastAPI
from fastapi.routing import iter_route_contexts
from pydantic import SecretStr

from api.config import Settings
from api.main import create_app
from tests.project.test_default_deny import PUBLIC

PROBLEM: Final = {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}
# The RFCs say how these refuse, and that they ignore what they do not know.
OAUTH: Final = {"token_endpoint", "passkey_options", "start_device", "revoke_by_holder", "introspect_token"}
# Names that say it all wherever they stand; every other field and parameter has a sentence.
SELF_EVIDENT: Final = {
    "current_password",
    "email",
    "full_name",
    "new_password",
    "password",
    "refresh_token",
    "username",
}


@pytest.fixture
def described(tmp_path: Path) -> FastAPI:
    """The application, not started: a description needs no database."""
    nowhere = SecretStr("postgresql://nobody@127.0.0.1:1/none")
    return create_app(Settings(database_url=nowhere, secret_key=SecretStr(secrets.token_hex(32)), home=tmp_path))


@pytest.fixture
def document(described: FastAPI) -> dict[str, Any]:
    """The OpenAPI document."""
    return described.openapi()


def operations(document: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield each path with each of its operations."""
    for path, methods in document["paths"].items():
        for operation in methods.values():
            yield path, operation


def bodies(document: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Yield the operationId, media type and schema of each request body that is an object."""
    for _, operation in operations(document):
        for media_type, body in operation.get("requestBody", {}).get("content", {}).items():
            if body["schema"] != {"type": "string"}:
                name = body["schema"]["$ref"].rpartition("/")[2]
                yield operation["operationId"], media_type, document["components"]["schemas"][name]


def test_version(document: dict[str, Any]) -> None:
    assert document["openapi"].startswith("3.1.")
    assert document["info"]["title"] == "apictl"
    assert document["info"]["summary"]


def test_every_operation_says_what_it_does(document: dict[str, Any]) -> None:
    silent = [found["operationId"] for _, found in operations(document) if not found.get("description")]
    untitled = [found["operationId"] for _, found in operations(document) if not found.get("summary")]
    assert (silent, untitled) == ([], [])


def test_operations_are_called_what_their_handlers_are(described: FastAPI, document: dict[str, Any]) -> None:
    names = [found["operationId"] for _, found in operations(document)]
    assert len(names) == len(set(names))
    routes = [route for route in iter_route_contexts(described.routes) if route.path in document["paths"]]
    handlers = [route.endpoint.__name__ for route in routes if route.endpoint is not None]
    assert sorted(names) == sorted(handlers)


def test_all_but_the_public_ones_need_a_token(document: dict[str, Any]) -> None:
    for path, operation in operations(document):
        expected: list[Any] = [] if path in PUBLIC else [{"OAuth2": []}]
        assert operation["security"] == expected, f"{operation['operationId']} ({path})"
    flow = document["components"]["securitySchemes"]["OAuth2"]["flows"]["password"]
    assert "post" in document["paths"][flow["tokenUrl"]]


def test_scopes_are_explained(document: dict[str, Any]) -> None:
    scopes = document["components"]["securitySchemes"]["OAuth2"]["flows"]["password"]["scopes"]
    assert [scope for scope, text in scopes.items() if not text or text == scope] == []


def test_failures_have_one_form(document: dict[str, Any]) -> None:
    for _, operation in operations(document):
        failures = {status: said for status, said in operation["responses"].items() if status >= "400"}
        if operation["operationId"] in OAUTH:
            # RFC 6749, section 5.2, where a grant or a client is refused.
            for status in {"400", "401"} & set(failures):
                if "application/json" in failures[status]["content"]:
                    failures.pop(status)
        for status, said in failures.items():
            assert said["content"] == PROBLEM, f"{operation['operationId']}: {status}"


def test_failures_that_can_come_are_announced(document: dict[str, Any]) -> None:
    missing = []
    for path, operation in operations(document):
        expected = set() if path == "/health/live" else {"503"}
        if operation["security"]:
            expected |= {"401"}
        if operation.get("parameters"):
            expected |= {"422"}
        if "requestBody" in operation:
            expected |= {"400", "413"} | (set() if operation["operationId"] in OAUTH else {"422"})
        if "{" in path:
            expected |= {"404"}
        if gone := expected - set(operation["responses"]):
            missing.append((operation["operationId"], sorted(gone)))
    assert missing == []


def test_bodies_are_closed(document: dict[str, Any]) -> None:
    found = {name: schema.get("additionalProperties") for name, _, schema in bodies(document) if name not in OAUTH}
    assert found
    assert {name for name, closed in found.items() if closed is not False} == set()


def test_what_is_sent_is_described(document: dict[str, Any]) -> None:
    sent = {
        f"{operation}: {name}": schema.get("description")
        for operation, _, body in bodies(document)
        for name, schema in body["properties"].items()
        if name not in SELF_EVIDENT
    }
    sent |= {
        f"{operation['operationId']}: {parameter['name']}": parameter.get("description")
        for _, operation in operations(document)
        for parameter in operation.get("parameters", [])
    }
    assert sent
    assert [name for name, description in sent.items() if not description] == []


async def test_what_is_not_read_is_refused(admin: httpx2.AsyncClient, application: FastAPI) -> None:
    """Whoever sends `{"overlap": 0}`, or `?wait=0`, to where nothing reads it believes that it was done."""
    asked = 0
    for path, methods in application.openapi()["paths"].items():
        if not path.startswith("/v1/"):
            continue
        there = re.sub(r"\{.*?\}", str(uuid4()), path)
        for method, operation in methods.items():
            kinds = operation.get("requestBody", {}).get("content", {})
            if operation["operationId"] in OAUTH:
                body = await admin.request(method, there, json={"nobody_asked": 1})
                assert (body.status_code, body.json()["error"]) == (400, "invalid_request"), (path, body.text)
                continue
            query = await admin.request(method, there, params={"nobody_asked": "1"})
            said = query.json()
            assert (query.status_code, said["code"]) == (422, "invalid-input"), (method, path, said)
            if not kinds:
                body = await admin.request(method, there, json={"nobody_asked": 1})
                assert (body.status_code, body.json()["code"]) == (422, "invalid-input"), (method, path, body.text)
            asked += 1
    assert asked > 40
