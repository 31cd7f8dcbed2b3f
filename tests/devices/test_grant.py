"""A device that somebody lets act for them (RFC 8628), as the device and as its user see it."""

import asyncio
from typing import Any, Final

import asyncpg
import httpx2
import pytest
from fastapi import FastAPI

from api.users.models import User
from tests.conftest import PASSWORD, SUPERUSER
from tests.support.postgres import somebody_waits

GRANT: Final = "urn:ietf:params:oauth:grant-type:device_code"
UNKNOWN: Final = "apictl_device_" + "A" * 43


async def start(client: httpx2.AsyncClient, **form: str) -> dict[str, Any]:
    answer = await client.post("/v1/auth/device", data=form, headers={"User-Agent": "a terminal"})
    assert (answer.status_code, answer.headers["Cache-Control"]) == (200, "no-store"), answer.text
    begun: dict[str, Any] = answer.json()
    return begun


async def poll(client: httpx2.AsyncClient, device_code: str) -> httpx2.Response:
    form = {"grant_type": GRANT, "device_code": device_code, "client_id": "apictl"}
    return await client.post("/v1/auth/token", data=form)


async def test_a_device_is_let_in(
    client: httpx2.AsyncClient, admin: httpx2.AsyncClient, database: asyncpg.Connection
) -> None:
    begun = await start(client, client_id="apictl")
    assert (begun["expires_in"], begun["interval"]) == (600, 5)
    assert begun["verification_uri"] == "http://localhost:8000/device"
    assert begun["verification_uri_complete"] == f"http://localhost:8000/device?user_code={begun['user_code']}"
    waiting = await poll(client, begun["device_code"])
    assert (waiting.status_code, waiting.json()["error"]) == (400, "authorization_pending")
    # Typed as people do.
    typed = begun["user_code"].lower().replace("-", " ")
    shown = (await admin.get(f"/v1/devices/{typed}")).json()
    assert (shown["user_code"], shown["user_agent"], shown["approved"]) == (begun["user_code"], "a terminal", None)
    assert (await admin.post(f"/v1/devices/{typed}/approve")).json()["approved"] is True
    again = await admin.post(f"/v1/devices/{typed}/deny")
    assert (again.status_code, again.json()["code"]) == (409, "device-decided")
    tokens = await poll(client, begun["device_code"])
    assert (tokens.status_code, tokens.headers["Cache-Control"]) == (200, "no-store")
    headers = {"Authorization": f"Bearer {tokens.json()['access_token']}"}
    assert (await client.get("/v1/users/me", headers=headers)).json()["email"] == SUPERUSER
    # Once.
    assert (await poll(client, begun["device_code"])).json()["error"] == "invalid_grant"
    actions = await database.fetch(
        "SELECT action FROM audit_entries WHERE action LIKE 'device.%' OR action = 'session.login'"
    )
    assert [entry["action"] for entry in actions] == ["device.approve", "session.login"]
    listed = (await admin.get("/v1/tokens", params={"user": SUPERUSER})).json()["items"]
    assert listed[0]["label"] == "device"


async def test_a_device_is_refused(client: httpx2.AsyncClient, admin: httpx2.AsyncClient) -> None:
    begun = await start(client)
    assert (await admin.post(f"/v1/devices/{begun['user_code']}/deny")).json()["approved"] is False
    for _ in range(2):
        answer = await poll(client, begun["device_code"])
        assert (answer.status_code, answer.json()["error"]) == (400, "access_denied")


async def test_a_device_that_asks_too_often(client: httpx2.AsyncClient, database: asyncpg.Connection) -> None:
    begun = await start(client)
    said = [(await poll(client, begun["device_code"])).json()["error"] for _ in range(3)]
    assert said == ["authorization_pending", "slow_down", "slow_down"]
    assert await database.fetchval('SELECT "interval" FROM device_authorizations') == 15
    await database.execute("UPDATE device_authorizations SET polled_at = polled_at - interval '16 seconds'")
    assert (await poll(client, begun["device_code"])).json()["error"] == "authorization_pending"


async def test_time_runs_out(
    client: httpx2.AsyncClient, admin: httpx2.AsyncClient, database: asyncpg.Connection
) -> None:
    begun, other = await start(client), await start(client)
    await admin.post(f"/v1/devices/{other['user_code']}/approve")
    await database.execute("UPDATE device_authorizations SET expires_at = now()")
    for one in (begun, other):
        assert (await poll(client, one["device_code"])).json()["error"] == "expired_token"
    for path in ("", "/approve", "/deny"):
        answer = await admin.request("POST" if path else "GET", f"/v1/devices/{begun['user_code']}{path}")
        assert (answer.status_code, answer.json()["code"]) == (404, "device-not-found")
    await database.execute("UPDATE device_authorizations SET expires_at = now() - interval '61 minutes'")
    await start(client)
    assert await database.fetchval("SELECT count(*) FROM device_authorizations") == 1


@pytest.mark.parametrize("code", [UNKNOWN, "x", "apictl_device_", "\x00", "apictl_rt_" + "A" * 71])
async def test_no_code_of_ours(client: httpx2.AsyncClient, code: str) -> None:
    answer = await poll(client, code)
    assert (answer.status_code, answer.json()["error"]) == (400, "invalid_grant")


@pytest.mark.parametrize("code", ["AAAA-AAAA", "%00", "x" * 41, "%ED%A0%80", "..%2F"])
async def test_no_code_that_a_device_shows(admin: httpx2.AsyncClient, code: str) -> None:
    for method, path in (("GET", ""), ("POST", "/approve")):
        answer = await admin.request(method, f"/v1/devices/{code}{path}")
        assert answer.status_code in {404, 422}, answer.text


async def test_a_device_gets_no_more_than_it_asked_for(client: httpx2.AsyncClient, admin: httpx2.AsyncClient) -> None:
    # Whoever decides sees what it asks for, so it can ask for nothing that would mislead them.
    sentence = await client.post("/v1/auth/device", data={"scope": "nothing at all, users:read is only a test"})
    assert (sentence.status_code, sentence.json()["error"]) == (400, "invalid_scope")
    begun = await start(client, scope=" users:read  users:read ")
    assert (await admin.get(f"/v1/devices/{begun['user_code']}")).json()["scope"] == "users:read"
    await admin.post(f"/v1/devices/{begun['user_code']}/approve")
    tokens = (await poll(client, begun["device_code"])).json()
    assert tokens["scope"] == "users:read"
    headers = {"Authorization": f"Bearer {tokens['access_token']}"}
    assert (await client.get("/v1/users", headers=headers)).status_code == 200
    assert (await client.get("/v1/roles", headers=headers)).status_code == 403


async def test_a_device_that_gets_nothing_of_what_it_asked_for_is_done(
    client: httpx2.AsyncClient, as_ada: httpx2.AsyncClient
) -> None:
    begun = await start(client, scope="roles:read")
    await as_ada.post(f"/v1/devices/{begun['user_code']}/approve")
    assert (await poll(client, begun["device_code"])).json()["error"] == "invalid_scope"
    assert (await poll(client, begun["device_code"])).json()["error"] == "invalid_grant"


async def test_whoever_holds_a_narrowed_token_lets_nothing_in(
    client: httpx2.AsyncClient, admin: httpx2.AsyncClient
) -> None:
    """It would come out as a token for everything."""
    begun = await start(client)
    narrowed = (await admin.post("/v1/tokens", json={"user": SUPERUSER, "scopes": ["users:read"]})).json()
    headers = {"Authorization": f"Bearer {narrowed['access_token']}"}
    for method, path in (("GET", ""), ("POST", "/approve"), ("POST", "/deny")):
        answer = await client.request(method, f"/v1/devices/{begun['user_code']}{path}", headers=headers)
        assert (answer.status_code, answer.json()["code"]) == (403, "missing-scope")


ENDINGS: Final[dict[str, list[tuple[str, str, dict[str, str] | None]]]] = {
    "password": [("PUT", "/v1/users/ada@example.com/password", {"password": f"{PASSWORD} again"})],
    "sessions": [("DELETE", "/v1/tokens?user=ada@example.com", None)],
    "deactivated": [
        ("POST", "/v1/users/ada@example.com/deactivate", None),
        ("POST", "/v1/users/ada@example.com/activate", None),
    ],
    "promoted": [("POST", "/v1/users/ada@example.com/promote", None)],
}


@pytest.mark.parametrize("ending", ENDINGS)
async def test_what_ends_sessions_ends_a_device_that_has_not_begun_one(
    client: httpx2.AsyncClient, admin: httpx2.AsyncClient, as_ada: httpx2.AsyncClient, ending: str
) -> None:
    begun = await start(client)
    assert (await as_ada.post(f"/v1/devices/{begun['user_code']}/approve")).status_code == 200
    for method, path, body in ENDINGS[ending]:
        assert (await admin.request(method, path, json=body)).status_code == 200
    assert (await poll(client, begun["device_code"])).json()["error"] == "invalid_grant"


async def test_two_who_lock_the_same_rows_do_not_wait_for_each_other(
    client: httpx2.AsyncClient, admin: httpx2.AsyncClient, database: asyncpg.Connection, superuser: User
) -> None:
    """Whoever ends all of a user's sessions locks the user, then the device; so does a device that begins one."""
    begun = await start(client)
    await admin.post(f"/v1/devices/{begun['user_code']}/approve")
    async with database.transaction():
        await database.execute("SELECT FROM users WHERE id = $1 FOR UPDATE", superuser.id)
        waiting = asyncio.create_task(poll(client, begun["device_code"]))
        await somebody_waits(database)
        await database.execute("DELETE FROM device_authorizations")
    assert (await waiting).json()["error"] == "invalid_grant"


async def test_its_user_is_deactivated_meanwhile(
    client: httpx2.AsyncClient, admin: httpx2.AsyncClient, as_ada: httpx2.AsyncClient
) -> None:
    begun = await start(client)
    assert (await as_ada.post(f"/v1/devices/{begun['user_code']}/approve")).status_code == 200
    await admin.post("/v1/users/ada@example.com/deactivate")
    assert (await poll(client, begun["device_code"])).json()["error"] == "invalid_grant"


async def test_twenty_at_once_get_one_session(
    app: FastAPI, client: httpx2.AsyncClient, admin: httpx2.AsyncClient, superuser: User, database: asyncpg.Connection
) -> None:
    begun = await start(client)
    before = await database.fetchval("SELECT count(*) FROM sessions")
    await admin.post(f"/v1/devices/{begun['user_code']}/approve")
    answers = await asyncio.gather(*(poll(client, begun["device_code"]) for _ in range(20)))
    assert sorted(answer.status_code for answer in answers) == [200] + [400] * 19
    assert await database.fetchval("SELECT count(*) FROM sessions") == before + 1


async def test_nothing_of_a_device_s_code_is_stored(client: httpx2.AsyncClient, database: asyncpg.Connection) -> None:
    begun = await start(client)
    rows = await database.fetch("SELECT * FROM device_authorizations")
    assert begun["device_code"].removeprefix("apictl_device_") not in str([dict(row) for row in rows])
