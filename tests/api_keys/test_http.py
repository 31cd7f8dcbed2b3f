"""API keys in use: what they open, from where, and what ends them at once."""

import asyncio
import logging
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
import httpx2
import pytest
from fastapi import FastAPI

from api.core.actor import ALL_SCOPES
from tests.conftest import SUPERUSER
from tests.support.postgres import somebody_waits
from tests.support.processes import Apictl

HERE = "127.0.0.1"


async def create(admin: httpx2.AsyncClient, user: str, *scopes: str, **more: Any) -> dict[str, Any]:
    answer = await admin.post("/v1/api-keys", json={"user": user, "name": "x", "scopes": [*scopes], **more})
    assert answer.status_code == 201, answer.text
    assert answer.headers["Cache-Control"] == "no-store"
    made: dict[str, Any] = answer.json()
    return made


def bearing(key: dict[str, Any]) -> dict[str, str]:
    return {"Authorization": f"Bearer {key['key']}"}


@pytest.fixture
async def deploy(admin: httpx2.AsyncClient) -> str:
    """A service account that may read and write users."""
    await admin.post("/v1/roles", json={"name": "deployer", "scopes": ["users:read", "users:write"]})
    answer = await admin.post("/v1/service-accounts", json={"name": "deploy", "roles": ["deployer"]})
    assert answer.status_code == 201
    return "deploy"


@pytest.fixture
async def client(app: FastAPI) -> AsyncIterator[httpx2.AsyncClient]:
    """A client at an address."""
    transport = httpx2.ASGITransport(app=app, client=(HERE, 1), raise_app_exceptions=False)
    async with httpx2.AsyncClient(transport=transport, base_url="http://testserver") as opened:
        yield opened


async def test_a_key_does_what_it_was_made_for(
    admin: httpx2.AsyncClient, client: httpx2.AsyncClient, deploy: str, database: asyncpg.Connection
) -> None:
    key = await create(admin, deploy, "users:read")
    assert (await client.get("/v1/users", headers=bearing(key))).status_code == 200
    me = (await client.get("/v1/users/me", headers=bearing(key))).json()
    assert (me["kind"], me["name"], me["email"]) == ("service", "deploy", None)
    refused = await client.post("/v1/users", headers=bearing(key), json={"email": "eve@example.com"})
    assert (refused.status_code, refused.json()["code"]) == (403, "missing-scope")
    writing = await create(admin, deploy, "users:write")
    made = await client.post("/v1/users", headers=bearing(writing), json={"email": "eve@example.com"})
    assert made.status_code == 201
    actor = await database.fetchval("SELECT actor FROM audit_entries WHERE detail->>'email' = 'eve@example.com'")
    assert actor == f"deploy key {writing['id']}"


async def test_a_key_is_not_its_owner(admin: httpx2.AsyncClient, client: httpx2.AsyncClient) -> None:
    """Not even a superuser's: it changes neither their account nor their credentials, but may end and renew itself."""
    key = await create(admin, SUPERUSER, "users:read")
    for method, path, body in (
        ("PATCH", "/v1/users/me", {"full_name": "x"}),
        ("PUT", "/v1/users/me/password", {"current_password": "x", "new_password": "x"}),
        ("GET", "/v1/tokens", None),
        ("GET", "/v1/api-keys", None),
        ("POST", "/v1/api-keys", {"user": SUPERUSER, "name": "x", "scopes": ["users:read"]}),
        ("POST", "/v1/tokens", {"user": SUPERUSER}),
    ):
        answer = await client.request(method, path, json=body, headers=bearing(key))
        assert (answer.status_code, answer.json()["code"]) == (403, "missing-scope"), (method, path)
    other = await create(admin, SUPERUSER)
    assert (await client.delete(f"/v1/api-keys/{other['id']}", headers=bearing(key))).status_code == 404
    renewed = (await client.post(f"/v1/api-keys/{key['id']}/rotate", headers=bearing(key))).json()
    assert renewed["scopes"] == ["users:read"]
    assert (await client.delete(f"/v1/api-keys/{key['id']}", headers=bearing(key))).status_code == 200
    assert (await client.get("/v1/users/me", headers=bearing(key))).status_code == 401
    assert (await client.get("/v1/users/me", headers=bearing(renewed))).status_code == 200


async def test_what_a_key_makes_does_not_outlive_it(admin: httpx2.AsyncClient, client: httpx2.AsyncClient) -> None:
    key = await create(admin, SUPERUSER, *ALL_SCOPES, expires_in=3600)
    issued = (await client.post("/v1/tokens", json={"user": SUPERUSER}, headers=bearing(key))).json()
    listed = (await admin.get("/v1/tokens")).json()["items"]
    assert [row["expires_at"] for row in listed if row["id"] == issued["session_id"]] == [key["expires_at"]]
    shorter = (await client.post("/v1/tokens", json={"user": SUPERUSER, "expires_in": 60}, headers=bearing(key))).json()
    listed = (await admin.get("/v1/tokens")).json()["items"]
    (ends,) = [row["expires_at"] for row in listed if row["id"] == shorter["session_id"]]
    assert datetime.fromisoformat(ends) < datetime.now(UTC) + timedelta(seconds=90)


async def test_a_key_does_not_change_what_its_owner_logs_in_with(
    admin: httpx2.AsyncClient, client: httpx2.AsyncClient
) -> None:
    key = await create(admin, SUPERUSER, *ALL_SCOPES)
    for values, status in (({"email": "mallory@example.com"}, 403), ({"full_name": "Root"}, 200)):
        answer = await client.patch(f"/v1/users/{SUPERUSER}", json=values, headers=bearing(key))
        assert answer.status_code == status, answer.text


async def test_people_keep_their_own_keys(
    admin: httpx2.AsyncClient, client: httpx2.AsyncClient, as_ada: httpx2.AsyncClient
) -> None:
    key = (await as_ada.post("/v1/api-keys", json={"user": "ada@example.com", "name": "mine"})).json()
    assert (await client.get("/v1/users/me", headers=bearing(key))).json()["email"] == "ada@example.com"
    assert [one["id"] for one in (await as_ada.get("/v1/api-keys")).json()["items"]] == [key["id"]]
    root = await create(admin, SUPERUSER)
    for method, path in (("POST", f"/v1/api-keys/{root['id']}/rotate"), ("DELETE", f"/v1/api-keys/{root['id']}")):
        assert (await as_ada.request(method, path)).json()["code"] == "api-key-not-found"
    for user in (SUPERUSER, "none@example.com"):
        refused = await as_ada.post("/v1/api-keys", json={"user": user, "name": "x"})
        assert (refused.status_code, refused.json()["code"]) == (403, "missing-scope")


async def test_a_lesser_administrator_cannot_take_over_a_superuser(
    admin: httpx2.AsyncClient, client: httpx2.AsyncClient, as_ada: httpx2.AsyncClient
) -> None:
    scopes = ["api-keys:write", "api-keys:read"]
    await admin.post("/v1/roles", json={"name": "keyring", "scopes": scopes})
    await admin.put("/v1/users/ada@example.com/roles/keyring")
    root = await create(admin, SUPERUSER)
    for method, path, body in (
        ("POST", "/v1/api-keys", {"user": SUPERUSER, "name": "x"}),
        ("POST", f"/v1/api-keys/{root['id']}/rotate", None),
        ("DELETE", f"/v1/api-keys/{root['id']}", None),
    ):
        answer = await as_ada.request(method, path, json=body)
        assert (answer.status_code, answer.json()["code"]) == (403, "missing-scope"), (method, path)
    await admin.post("/v1/users", json={"email": "bob@example.com"})
    assert (await as_ada.post("/v1/api-keys", json={"user": "bob@example.com", "name": "x"})).status_code == 201


@pytest.mark.parametrize("ending", ["revoke", "expire", "deactivate", "delete", "role", "scope of role"])
async def test_what_ends_or_narrows_a_key_does_so_at_once(
    admin: httpx2.AsyncClient,
    client: httpx2.AsyncClient,
    deploy: str,
    apictl: Apictl,
    environment: dict[str, str],
    database: asyncpg.Connection,
    ending: str,
) -> None:
    """It dies in the running server; what killed it came from the terminal, another process."""
    key = await create(admin, deploy, "users:read")
    assert (await client.get("/v1/users", headers=bearing(key))).status_code == 200
    if ending == "expire":
        await database.execute("UPDATE api_keys SET expires_at = now() - interval '1 second'")
    else:
        line = {
            "revoke": ["revoke-api-key", key["id"]],
            "deactivate": ["deactivate-user", deploy],
            "delete": ["delete-user", deploy, "--yes"],
            "role": ["revoke-role", deploy, "deployer"],
            "scope of role": ["update-role", "deployer", "--scope", "users:write"],
        }[ending]
        assert (await apictl(*line, environment=environment)).code == 0
    refused = await client.get("/v1/users", headers=bearing(key))
    assert refused.status_code == (403 if "role" in ending else 401)


async def test_whoever_deletes_the_owner_of_a_key_and_whoever_rotates_it_lock_in_one_order(
    admin: httpx2.AsyncClient, deploy: str, database: asyncpg.Connection
) -> None:
    key = await create(admin, deploy, "users:read")
    async with database.transaction():
        await database.execute("SELECT FROM users WHERE name = $1 FOR UPDATE", deploy)
        rotating = asyncio.create_task(admin.post(f"/v1/api-keys/{key['id']}/rotate"))
        await somebody_waits(database)
        # It holds nothing that this needs.
        await database.execute("DELETE FROM users WHERE name = $1", deploy)
    answer = await rotating
    assert (answer.status_code, answer.json()["code"]) == (404, "api-key-not-found")


async def test_two_keys_overlap_and_then_one_is_left(
    admin: httpx2.AsyncClient, client: httpx2.AsyncClient, deploy: str, database: asyncpg.Connection
) -> None:
    old = await create(admin, deploy, "users:read")
    new = (await admin.post(f"/v1/api-keys/{old['id']}/rotate", json={"overlap": 3600})).json()
    for key in (old, new):
        assert (await client.get("/v1/users", headers=bearing(key))).status_code == 200
    left = await database.fetchval("SELECT expires_at - now() FROM api_keys WHERE id = $1", old["id"])
    assert 3590 < left.total_seconds() <= 3600
    lives = await database.fetch("SELECT expires_at - created_at AS life FROM api_keys WHERE successor_id IS NULL")
    assert [row["life"].days for row in lives] == [90]
    at_once = (await admin.post(f"/v1/api-keys/{new['id']}/rotate", json={"overlap": 0})).json()
    assert (await client.get("/v1/users", headers=bearing(new))).status_code == 401
    assert (await client.get("/v1/users", headers=bearing(at_once))).status_code == 200


async def test_of_many_rotations_at_once_one_succeeds(admin: httpx2.AsyncClient, deploy: str) -> None:
    key = await create(admin, deploy)
    answers = await asyncio.gather(*(admin.post(f"/v1/api-keys/{key['id']}/rotate") for _ in range(10)))
    assert sorted(answer.status_code for answer in answers) == [201] + [409] * 9


async def test_a_key_is_good_only_from_its_networks(
    admin: httpx2.AsyncClient, client: httpx2.AsyncClient, deploy: str, caplog: pytest.LogCaptureFixture
) -> None:
    here = await create(admin, deploy, networks=[HERE, "2001:db8::/32"])
    elsewhere = await create(admin, deploy, networks=["192.0.2.0/24"])
    assert (await client.get("/v1/users/me", headers=bearing(here))).status_code == 200
    with caplog.at_level(logging.WARNING, "apictl"):
        refused = await client.get("/v1/users/me", headers=bearing(elsewhere))
    # The same as for a key that does not exist: a thief learns nothing. The operator does.
    unknown = await client.get("/v1/users/me", headers={"Authorization": "Bearer apictl_key_x"})
    assert refused.status_code == unknown.status_code == 401
    assert {**refused.json(), "request_id": ""} == {**unknown.json(), "request_id": ""}
    assert any(elsewhere["id"] in line and HERE in line for line in caplog.messages)
    assert elsewhere["key"] not in caplog.text


@pytest.mark.parametrize(("address", "status"), [("::ffff:192.0.2.7", 200), ("192.0.3.1", 401), ("testclient", 401)])
async def test_addresses(app: FastAPI, admin: httpx2.AsyncClient, deploy: str, address: str, status: int) -> None:
    key = await create(admin, deploy, networks=["192.0.2.0/24"])
    transport = httpx2.ASGITransport(app=app, client=(address, 1))
    async with httpx2.AsyncClient(transport=transport, base_url="http://testserver") as client:
        assert (await client.get("/v1/users/me", headers=bearing(key))).status_code == status


async def test_its_use_is_noted_once_a_minute(
    admin: httpx2.AsyncClient, client: httpx2.AsyncClient, deploy: str, database: asyncpg.Connection
) -> None:
    key = await create(admin, deploy)

    async def noted() -> Any:
        await client.get("/v1/users/me", headers=bearing(key))
        return await database.fetchrow("SELECT last_used_at, last_used_address, xmin::text FROM api_keys")

    first = await noted()
    assert (first["last_used_at"] is not None, first["last_used_address"]) == (True, HERE)
    assert await noted() == first
    await database.execute("UPDATE api_keys SET last_used_at = now() - interval '61 seconds'")
    assert (await noted())["last_used_at"] > first["last_used_at"]


async def test_another_secret_for_the_same_id_opens_nothing(
    admin: httpx2.AsyncClient, client: httpx2.AsyncClient, deploy: str, database: asyncpg.Connection
) -> None:
    one, other = await create(admin, deploy), await create(admin, deploy)
    await database.execute(
        "UPDATE api_keys SET digest = (SELECT digest FROM api_keys WHERE id = $1) WHERE id = $2", one["id"], other["id"]
    )
    assert (await client.get("/v1/users/me", headers=bearing(other))).status_code == 401


@pytest.mark.parametrize(
    "network", ["fe80::1%eth0", "fe80::1%\n", "fe80::1%\x9b31m", "10.0.0.0/33", "", "x", "10.0.0.1,::1"]
)
async def test_what_is_no_network(admin: httpx2.AsyncClient, deploy: str, network: str) -> None:
    answer = await admin.post("/v1/api-keys", json={"user": "deploy", "name": "x", "networks": [network]})
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid-input")


async def test_a_mapped_network_is_the_one_that_clients_come_from(admin: httpx2.AsyncClient, deploy: str) -> None:
    body = {"user": "deploy", "name": "x", "networks": ["::ffff:10.0.0.0/104", "::ffff:192.0.2.1"]}
    made = (await admin.post("/v1/api-keys", json=body)).json()
    assert made["networks"] == ["10.0.0.0/8", "192.0.2.1/32"]
