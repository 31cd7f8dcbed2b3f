"""A request can be tried without doing it (`Prefer: dry-run`), and says whether it changed anything."""

from typing import Final

import asyncpg
import httpx2
import pytest
from fastapi import FastAPI
from fastapi.routing import APIRoute, iter_route_contexts

from api.core.dependencies import SAFE, get_dry_run, refuse_dry_run, takes
from tests.conftest import SUPERUSER
from tests.support.processes import Apictl

DRY: Final = {"Prefer": "respond-async, Dry-Run"}
# It reads, although it is a POST.
READS: Final = {"introspect_token"}


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
        "change_my_email",
        "change_my_password",
        "confirm_factor",
        "deny_device",
        "end_own_session",
        "enroll_passkey",
        "enroll_totp",
        "new_recovery_codes",
        "remove_factor",
        "verify_my_email",
    }
    assert all(takes(route.dependant, refuse_dry_run) for route in changing if route.name in wrong)


async def test_nothing_that_is_undone_is_a_token(admin: httpx2.AsyncClient) -> None:
    """What each route does about a dry run is in tests/project/test_matrix.py."""
    answer = await admin.post("/v1/tokens", json={"user": SUPERUSER}, headers=DRY)
    assert (answer.headers["preference-applied"], answer.headers["apictl-changed"]) == ("dry-run", "true")
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
    "wish",
    [
        "dry-run=1",
        '"dry-run"',
        "dry_run",
        "DRY-RUN",
        "respond-async; dry-run",
        "respond-async;dry_run, wait=1",
        "dry-run\t",
        "\tdry-run",
        "dry-run\t;wait=1",
        "'dry-run'",
        "dryrun",
        "dry run",
        '{"dry-run":true}',
        "true dry-run wait=1",
    ],
)
async def test_in_whatever_form(admin: httpx2.AsyncClient, wish: str) -> None:
    """Who is misunderstood would find it done."""
    ada = {"email": "ada@example.com"}
    undone = await admin.post("/v1/users", json=ada, headers={"Prefer": wish})
    assert (undone.status_code, undone.headers.get("preference-applied")) == (201, "dry-run")
    refused = await admin.post("/v1/bulk/users", headers={"Prefer": wish})
    assert (refused.status_code, refused.json()["code"]) == (400, "no-dry-run")
    assert (await admin.get("/v1/users/ada@example.com")).status_code == 404


async def test_whether_it_changed_anything(admin: httpx2.AsyncClient) -> None:
    line = {"email": "ada@example.com"}
    said = [(await admin.post("/v1/users?if_exists=skip", json=line)).headers["apictl-changed"] for _ in range(2)]
    said += [(await admin.post("/v1/users/ada@example.com/deactivate")).headers["apictl-changed"] for _ in range(2)]
    assert said == ["true", "false"] * 2
    assert "apictl-changed" not in (await admin.get("/v1/users/ada@example.com")).headers


def test_documented(application: FastAPI) -> None:
    create = application.openapi()["paths"]["/v1/users"]["post"]
    assert [one["name"] for one in create["parameters"] if one["in"] == "header"] == ["Prefer", "Idempotency-Key"]
    assert set(create["responses"]["201"]["headers"]) == {
        "Apictl-Changed",
        "Preference-Applied",
        "Idempotency-Replayed",
    }
