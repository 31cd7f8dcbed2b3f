"""A request can be tried without doing it (`Prefer: dry-run`), and says whether it changed anything."""

from typing import Any, Final

import asyncpg
import httpx2
import pytest
from fastapi import FastAPI
from fastapi.routing import APIRoute, iter_route_contexts

from api.core.dependencies import SAFE, get_dry_run, refuse_dry_run, takes
from tests.conftest import PASSWORD, SUPERUSER
from tests.support.processes import Apictl

DRY: Final = {"Prefer": "respond-async, Dry-Run"}
# It reads, although it is a POST.
READS: Final = {"introspect_token"}
ROWS: Final = "SELECT (SELECT count(*) FROM users), (SELECT count(*) FROM roles), (SELECT count(*) FROM sessions), (\
SELECT count(*) FROM api_keys), (SELECT count(*) FROM signing_keys), (SELECT count(*) FROM audit_entries)"


def test_every_route_that_changes_something_undoes_it_or_refuses_to(application: FastAPI) -> None:
    routes = [route for route in iter_route_contexts(application.routes) if isinstance(route.original_route, APIRoute)]
    changing = [route for route in routes if not (route.methods or set()) <= SAFE and route.name not in READS]
    assert len(changing) > 30
    # One of both, and not the other.
    wrong = [
        route.name
        for route in changing
        if takes(route.dependant, get_dry_run) == takes(route.dependant, refuse_dry_run)
    ]
    # What has a transaction and refuses it has both: then the refusal comes first.
    assert set(wrong) == {
        "approve_device",
        "change_my_password",
        "confirm_factor",
        "deny_device",
        "end_own_session",
        "enroll_passkey",
        "enroll_totp",
        "new_recovery_codes",
        "remove_factor",
    }
    assert all(takes(route.dependant, refuse_dry_run) for route in changing if route.name in wrong)


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("POST", "/v1/users", {"email": "ada@example.com", "password": PASSWORD}),
        ("PATCH", f"/v1/users/{SUPERUSER}", {"full_name": "Ada"}),
        ("PUT", "/v1/users/{other}/password", {"password": PASSWORD + "!"}),
        ("DELETE", "/v1/users/{other}", None),
        ("POST", "/v1/roles", {"name": "support", "scopes": []}),
        ("POST", "/v1/service-accounts", {"name": "deploy"}),
        ("POST", "/v1/tokens", {"user": SUPERUSER}),
        ("DELETE", "/v1/tokens?user={other}", None),
        ("POST", "/v1/api-keys", {"user": SUPERUSER, "name": "x"}),
        ("POST", "/v1/signing-keys", {}),
    ],
)
async def test_undone(
    admin: httpx2.AsyncClient, database: asyncpg.Connection, method: str, path: str, body: Any
) -> None:
    other = (await admin.post("/v1/users", json={"email": "other@example.com"})).json()["id"]
    path = path.format(other=other)
    before = await database.fetchrow(ROWS)
    answer = await admin.request(method, path, json=body, headers=DRY)
    assert (answer.is_success, answer.headers["preference-applied"]) == (True, "dry-run"), answer.text
    assert answer.headers["apictl-changed"] in {"true", "false"}
    assert await database.fetchrow(ROWS) == before
    assert (await admin.get(f"/v1/users/{SUPERUSER}")).json()["full_name"] == ""
    if path == "/v1/tokens":
        assert (answer.json()["access_token"], answer.json()["refresh_token"]) == ("dry run", "dry run")


async def test_a_migration_is_undone(
    admin: httpx2.AsyncClient, apictl: Apictl, environment: dict[str, str], database: asyncpg.Connection
) -> None:
    assert (await apictl("rollback", "--yes", environment=environment)).code == 0
    version = "SELECT version_num FROM alembic_version"
    before = await database.fetchval(version)
    answer = await admin.post("/v1/migrations/upgrade", headers=DRY)
    assert (answer.headers["preference-applied"], answer.headers["apictl-changed"]) == ("dry-run", "true"), answer.text
    assert await database.fetchval(version) == before


@pytest.mark.parametrize(
    ("path", "form"),
    [
        ("/v1/auth/token", {"grant_type": "password", "username": SUPERUSER, "password": PASSWORD}),
        ("/v1/auth/device", {"scope": ""}),
        ("/v1/auth/logout", None),
        ("/v1/bulk/users", None),
        ("/v1/users/me/recovery-codes", None),
    ],
)
async def test_refused(
    admin: httpx2.AsyncClient, database: asyncpg.Connection, path: str, form: dict[str, str] | None
) -> None:
    before = await database.fetchrow(ROWS)
    answer = await admin.post(path, data=form, headers={"Prefer": "dry-run=1"})
    assert (answer.status_code, answer.json()["code"]) == (400, "no-dry-run")
    assert await database.fetchrow(ROWS) == before


async def test_whether_it_changed_anything(admin: httpx2.AsyncClient) -> None:
    line = {"email": "ada@example.com"}
    said = [(await admin.post("/v1/users?if_exists=skip", json=line)).headers["apictl-changed"] for _ in range(2)]
    said += [(await admin.post("/v1/users/ada@example.com/deactivate")).headers["apictl-changed"] for _ in range(2)]
    assert said == ["true", "false"] * 2
    assert "apictl-changed" not in (await admin.get("/v1/users/ada@example.com")).headers


def test_documented(application: FastAPI) -> None:
    create = application.openapi()["paths"]["/v1/users"]["post"]
    assert [one["name"] for one in create["parameters"] if one["in"] == "header"] == ["Prefer"]
    assert set(create["responses"]["201"]["headers"]) == {"Apictl-Changed", "Preference-Applied"}
