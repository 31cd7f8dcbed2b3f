"""What a role lets people do, and what nobody can do by way of one."""

import asyncio

import asyncpg
import httpx2
import pytest

from api.core.actor import Powers, Scope
from tests.conftest import SUPERUSER


async def give(admin: httpx2.AsyncClient, *scopes: str) -> None:
    """Make a role with these scopes, and grant it to Ada."""
    assert (await admin.post("/v1/roles", json={"name": "support", "scopes": [*scopes]})).status_code == 201
    assert (await admin.put("/v1/users/ada@example.com/roles/support")).status_code == 200


async def test_a_live_session_gains_and_loses_at_once(as_ada: httpx2.AsyncClient, admin: httpx2.AsyncClient) -> None:
    assert (await as_ada.get("/v1/users")).status_code == 403
    await give(admin, "users:read")
    assert (await as_ada.get("/v1/users")).status_code == 200
    await admin.patch("/v1/roles/support", json={"scopes": []})
    assert (await as_ada.get("/v1/users")).status_code == 403
    await admin.patch("/v1/roles/support", json={"scopes": ["users:read"]})
    assert (await as_ada.get("/v1/users")).status_code == 200
    await admin.delete("/v1/users/ada@example.com/roles/support")
    assert (await as_ada.get("/v1/users")).status_code == 403


async def test_nobody_becomes_more_than_they_are(as_ada: httpx2.AsyncClient, admin: httpx2.AsyncClient) -> None:
    await give(admin, "users:write", "roles:write", "roles:read")
    await admin.post("/v1/roles", json={"name": "deleter", "scopes": ["users:delete"]})
    for method, path, body in (
        ("POST", "/v1/roles", {"name": "own", "scopes": ["users:delete"]}),
        ("PATCH", "/v1/roles/support", {"scopes": ["users:write", "roles:write", "users:delete"]}),
        ("PATCH", "/v1/roles/deleter", {"scopes": ["users:write"]}),
        ("DELETE", "/v1/roles/deleter", None),
        ("PUT", "/v1/users/ada@example.com/roles/deleter", None),
        ("PUT", f"/v1/users/{SUPERUSER}/roles/support", None),
        ("PUT", f"/v1/users/{SUPERUSER}/password", {"password": "four unrelated words here"}),
        ("POST", "/v1/users/ada@example.com/promote", None),
    ):
        answer = await as_ada.request(method, path, json=body)
        assert (answer.status_code, answer.json()["code"]) == (403, "missing-scope"), (method, path)
    # What they hold they may hand on, and take back.
    assert (await as_ada.post("/v1/roles", json={"name": "own", "scopes": ["roles:read"]})).status_code == 201
    await admin.post("/v1/users", json={"email": "bob@example.com"})
    for method in ("PUT", "DELETE"):
        assert (await as_ada.request(method, "/v1/users/bob@example.com/roles/own")).status_code == 200
    # Whoever holds more than they do is out of their reach, also when deactivated.
    await admin.put("/v1/users/bob@example.com/roles/deleter")
    await admin.post("/v1/users/bob@example.com/deactivate")
    for path in ("activate", "deactivate"):
        assert (await as_ada.post(f"/v1/users/bob@example.com/{path}")).status_code == 403
    assert (await as_ada.delete("/v1/users/bob@example.com/roles/own")).status_code == 403


async def test_a_role_cannot_be_deleted_and_granted_at_once(
    admin: httpx2.AsyncClient, database: asyncpg.Connection
) -> None:
    for number in range(10):
        await admin.post("/v1/users", json={"email": f"u{number}@example.com"})
        await admin.post("/v1/roles", json={"name": "brief", "scopes": []})
        granted, deleted = await asyncio.gather(
            admin.put(f"/v1/users/u{number}@example.com/roles/brief"), admin.delete("/v1/roles/brief")
        )
        assert (granted.status_code, deleted.status_code) in {(200, 409), (404, 200)}
        dangling = "SELECT count(*) FROM users WHERE roles <> '{}' AND NOT EXISTS (SELECT FROM roles)"
        assert await database.fetchval(dangling) == 0
        await database.execute("UPDATE users SET roles = '{}'; DELETE FROM roles")


async def test_ten_roles_granted_at_once_are_ten(admin: httpx2.AsyncClient, as_ada: httpx2.AsyncClient) -> None:
    names = [f"r{number}" for number in range(10)]
    for name in names:
        await admin.post("/v1/roles", json={"name": name, "scopes": []})
    await asyncio.gather(*(admin.put(f"/v1/users/ada@example.com/roles/{name}") for name in names))
    assert (await as_ada.get("/v1/users/me")).json()["roles"] == names


async def test_the_explanation_is_what_happens(as_ada: httpx2.AsyncClient, admin: httpx2.AsyncClient) -> None:
    """For each scope, held and not: what `explain` says, and what a request that needs it is answered."""
    needing = {
        Scope.USERS_READ: ("GET", "/v1/users"),
        Scope.USERS_WRITE: ("POST", "/v1/users/none@example.com/activate"),
        Scope.USERS_DELETE: ("DELETE", "/v1/users/none@example.com"),
        Scope.TOKENS_READ: ("GET", f"/v1/tokens?user={SUPERUSER}"),
        Scope.ROLES_READ: ("GET", "/v1/roles"),
        Scope.ROLES_WRITE: ("DELETE", "/v1/roles/none"),
        Scope.MIGRATIONS_READ: ("GET", "/v1/migrations"),
        Scope.MIGRATIONS_RUN: ("POST", "/v1/migrations/upgrade"),
    }
    await give(admin)
    for held in needing:
        await admin.patch("/v1/roles/support", json={"scopes": [held, "users:read"]})
        for scope, (method, path) in needing.items():
            said = (await as_ada.get("/v1/explain", params={"user": "ada@example.com", "can": scope})).json()
            answer = await as_ada.request(method, path)
            assert (answer.status_code != 403) == said["allowed"], (held, scope, answer.text)


@pytest.mark.parametrize("superuser", [True, False])
@pytest.mark.parametrize("active", [True, False])
@pytest.mark.parametrize("granted", [None, [], ["users:read"], ["users:write", "no:such"]])
@pytest.mark.parametrize("roles", [{}, {"a": ["users:read"]}, {"a": ["users:write"], "b": ["users:read", "no:such"]}])
def test_powers(*, superuser: bool, active: bool, granted: list[str] | None, roles: dict[str, list[str]]) -> None:
    every = {scope.value for scope in Scope}
    held = every if superuser else {scope for scopes in roles.values() for scope in scopes}
    expected = (held if granted is None else held & set(granted)) & every if active else set()
    powers = Powers(is_superuser=superuser, roles=roles, granted=granted, is_active=active)
    assert {scope.value for scope in powers.scopes} == expected
