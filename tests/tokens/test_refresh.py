"""Rotation of refresh tokens: one child, a grace period for honest repeats, and the end of the family for replays."""

import asyncio
import json
import time
from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import httpx2
import pytest
from asgi_lifespan import LifespanManager

from api.config import Settings
from api.main import create_app
from api.tokens.secret import PREFIX, RefreshToken
from api.users.models import User
from tests.conftest import SUPERUSER, log_in


async def refresh(client: httpx2.AsyncClient, token: str, **more: str) -> httpx2.Response:
    return await client.post("/v1/auth/token", data={"grant_type": "refresh_token", "refresh_token": token} | more)


@pytest.fixture
async def tokens(client: httpx2.AsyncClient, superuser: User) -> dict[str, Any]:
    return await log_in(client, SUPERUSER)


async def test_a_chain_of_rotations(client: httpx2.AsyncClient, tokens: dict[str, Any]) -> None:
    seen = {tokens["refresh_token"]}
    current = tokens["refresh_token"]
    for _ in range(5):
        answer = await refresh(client, current)
        assert answer.status_code == 200
        current = answer.json()["refresh_token"]
        assert current not in seen
        seen.add(current)
        bearer = {"Authorization": f"Bearer {answer.json()['access_token']}"}
        assert (await client.get("/v1/users/me", headers=bearer)).status_code == 200


async def test_many_uses_at_once_are_one_rotation(
    client: httpx2.AsyncClient, tokens: dict[str, Any], database: asyncpg.Connection
) -> None:
    answers = await asyncio.gather(*(refresh(client, tokens["refresh_token"]) for _ in range(50)))
    assert {answer.status_code for answer in answers} == {200}
    assert len({answer.json()["refresh_token"] for answer in answers}) == 1
    assert await database.fetchval("SELECT rotation FROM sessions") == 1


@pytest.mark.parametrize("off", [-120, 120])
async def test_the_database_s_clock_ends_what_is_stored(
    client: httpx2.AsyncClient,
    admin: httpx2.AsyncClient,
    tokens: dict[str, Any],
    database: asyncpg.Connection,
    monkeypatch: pytest.MonkeyPatch,
    off: int,
) -> None:
    """Row 16: whatever the time is where a server runs, also where access tokens are refused for it."""
    new = {"user": SUPERUSER, "name": "x", "scopes": ["users:read"], "expires_in": 3600}
    key = (await admin.post("/v1/api-keys", json=new)).json()["key"]
    clock = time.time
    monkeypatch.setattr(time, "time", lambda: clock() + off)

    async def good(token: str) -> tuple[bool, bool]:
        bearer = {"Authorization": f"Bearer {key}"}
        shown = (await client.get("/v1/users", headers=bearer)).is_success
        return (await refresh(client, token)).is_success, shown

    for left, is_good in ((60, True), (-1, False)):
        for table in ("sessions", "api_keys"):
            await database.execute(f"UPDATE {table} SET expires_at = now() + make_interval(secs => $1)", left)  # noqa: S608 - names of ours
        assert await good(tokens["refresh_token"]) == (is_good, is_good)


async def test_a_replay_ends_the_family_though_the_request_is_refused(
    client: httpx2.AsyncClient, tokens: dict[str, Any], database: asyncpg.Connection
) -> None:
    """Seen from a second connection: a revocation that the refusal rolled back would not be there."""
    first = (await refresh(client, tokens["refresh_token"])).json()
    second = (await refresh(client, first["refresh_token"])).json()
    stolen = await refresh(client, tokens["refresh_token"])
    assert (stolen.status_code, stolen.json()["error"]) == (400, "invalid_grant")
    ended = await database.fetch("SELECT revoked_because FROM sessions WHERE revoked_at IS NOT NULL")
    assert [row["revoked_because"] for row in ended] == ["refresh token replayed"]
    detail = await database.fetchval("SELECT detail FROM audit_entries WHERE action = 'session.replay'")
    assert json.loads(detail)["used"] == 0
    assert (await refresh(client, second["refresh_token"])).json()["error"] == "invalid_grant"
    bearer = {"Authorization": f"Bearer {second['access_token']}"}
    assert (await client.get("/v1/users/me", headers=bearer)).status_code == 401


async def test_a_repeat_after_the_grace_period_is_a_replay(
    client: httpx2.AsyncClient, tokens: dict[str, Any], database: asyncpg.Connection
) -> None:
    await refresh(client, tokens["refresh_token"])
    await database.execute("UPDATE sessions SET rotated_at = now() - interval '11 seconds'")
    assert (await refresh(client, tokens["refresh_token"])).json()["error"] == "invalid_grant"
    assert await database.fetchval("SELECT revoked_at FROM sessions") is not None


@pytest.fixture
async def strict(settings: Settings) -> AsyncIterator[httpx2.AsyncClient]:
    """A server without a grace period."""
    app = create_app(settings.model_copy(update={"refresh_grace": 0}))
    async with (
        LifespanManager(app),
        httpx2.AsyncClient(transport=httpx2.ASGITransport(app=app), base_url="http://testserver") as client,
    ):
        yield client


async def test_without_grace_every_repeat_is_a_replay(strict: httpx2.AsyncClient, superuser: User) -> None:
    tokens = await log_in(strict, SUPERUSER)
    child = (await refresh(strict, tokens["refresh_token"])).json()
    assert (await refresh(strict, tokens["refresh_token"])).json()["error"] == "invalid_grant"
    assert (await refresh(strict, child["refresh_token"])).json()["error"] == "invalid_grant"


async def test_a_refused_scope_does_not_use_the_token_up(strict: httpx2.AsyncClient, superuser: User) -> None:
    tokens = await log_in(strict, SUPERUSER)
    assert (await refresh(strict, tokens["refresh_token"], scope="none")).json()["error"] == "invalid_scope"
    assert (await refresh(strict, tokens["refresh_token"])).status_code == 200


async def test_refreshing_can_narrow_and_never_widen(client: httpx2.AsyncClient, tokens: dict[str, Any]) -> None:
    narrowed = (await refresh(client, tokens["refresh_token"], scope="users:read")).json()
    assert narrowed["scope"] == "users:read"
    bearer = {"Authorization": f"Bearer {narrowed['access_token']}"}
    assert (await client.get("/v1/users", headers=bearer)).status_code == 200
    assert (await client.delete("/v1/users/none@example.com", headers=bearer)).status_code == 403
    limited = (await log_in_with(client, "users:read"))["refresh_token"]
    assert (await refresh(client, limited, scope="users:write")).json()["error"] == "invalid_scope"


async def log_in_with(client: httpx2.AsyncClient, scope: str) -> dict[str, Any]:
    form = {"grant_type": "password", "username": SUPERUSER, "password": "correct horse battery staple", "scope": scope}
    body: dict[str, Any] = (await client.post("/v1/auth/token", data=form)).json()
    return body


async def test_a_changed_token_is_none(client: httpx2.AsyncClient, tokens: dict[str, Any]) -> None:
    token = tokens["refresh_token"]
    for position in range(len(PREFIX), len(token)):
        changed = token[:position] + ("A" if token[position] != "A" else "B") + token[position + 1 :]
        assert (await refresh(client, changed)).json()["error"] == "invalid_grant", position
    for other in (token + "A", token[:-1], token + "=", token.upper(), token.replace("_rt_", "_ak_")):
        assert (await refresh(client, other)).json()["error"] == "invalid_grant"
    assert (await refresh(client, token)).status_code == 200


async def test_another_server_s_key_makes_no_token_here(tokens: dict[str, Any]) -> None:
    made = RefreshToken.decode(tokens["refresh_token"], b"another key")
    assert made is None


async def test_the_database_holds_no_token(
    client: httpx2.AsyncClient, tokens: dict[str, Any], database: asyncpg.Connection
) -> None:
    child = (await refresh(client, tokens["refresh_token"])).json()
    secrets = [tokens["access_token"], tokens["refresh_token"], child["refresh_token"]]
    for table in ("users", "sessions", "audit_entries"):
        text = str([tuple(row) for row in await database.fetch(f"SELECT * FROM {table}")])  # noqa: S608 - a name of ours
        for secret in secrets:
            assert secret not in text
            assert secret.removeprefix(PREFIX)[24:] not in text
