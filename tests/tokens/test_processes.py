"""Tokens where several processes serve them, under load, and over a network that fails."""

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any, Final
from urllib.parse import urlsplit

import asyncpg
import httpx2
import pytest

from api.users.models import User
from tests.conftest import PASSWORD, SUPERUSER
from tests.support.cases import cases
from tests.support.processes import Apictl
from tests.support.servers import cut_after_the_answer, two_servers

Servers = tuple[httpx2.AsyncClient, httpx2.AsyncClient]
# What an administrator does, and the statuses that the user's clients may then get.
ENDINGS: Final = {
    "deactivated": (("deactivate-user", "{user}"), {401}),
    "deleted": (("delete-user", "{user}", "--yes"), {401}),
    "demoted": (("revoke-role", "{user}", "reader"), {403}),
    "password": (("set-password", "{user}", "--password-stdin"), {401}),
    "ended": (("revoke-token", "{session}"), {401}),
    "all-ended": (("revoke-tokens", "{user}", "--yes"), {401}),
}


@pytest.fixture
async def servers(apictl: Apictl, environment: dict[str, str], superuser: User) -> AsyncIterator[Servers]:
    # What is asked here is not how long a machine may stand still.
    patient = environment | {"APICTL_POOL_TIMEOUT": "30", "APICTL_STATEMENT_TIMEOUT": "30"}
    async with two_servers(apictl, patient) as clients:
        yield clients


async def issued(apictl: Apictl, environment: dict[str, str], user: str) -> dict[str, Any]:
    tokens: dict[str, Any] = (await apictl("create-token", user, "-o", "json", environment=environment)).json()
    return tokens


async def refresh(client: httpx2.AsyncClient, token: str) -> httpx2.Response:
    return await client.post("/v1/auth/token", data={"grant_type": "refresh_token", "refresh_token": token})


async def test_a_thousand_uses_at_once_are_one_rotation(
    apictl: Apictl, environment: dict[str, str], servers: Servers, database: asyncpg.Connection
) -> None:
    """Row 7: half of them at each of two processes."""
    token = (await issued(apictl, environment, SUPERUSER))["refresh_token"]
    answers = await asyncio.gather(*(refresh(servers[number % 2], token) for number in range(cases(1000))))
    assert [answer.text for answer in answers if answer.status_code != 200] == []
    assert len({answer.json()["refresh_token"] for answer in answers}) == 1
    assert await database.fetchval("SELECT rotation FROM sessions") == 1


async def test_a_replay_ends_the_session_in_every_process(
    apictl: Apictl, environment: dict[str, str], servers: Servers, database: asyncpg.Connection
) -> None:
    """Row 8: two rotations at one, then the first token again at the other."""
    first = await issued(apictl, environment, SUPERUSER)
    second = (await refresh(servers[0], first["refresh_token"])).json()
    third = (await refresh(servers[0], second["refresh_token"])).json()
    replayed = await refresh(servers[1], first["refresh_token"])
    assert (replayed.status_code, replayed.json()["error"]) == (400, "invalid_grant")
    # Nobody waits here, and so it is sooner than within a second.
    for server in servers:
        for issue in (first, second, third):
            headers = {"Authorization": f"Bearer {issue['access_token']}"}
            assert (await server.get("/v1/users/me", headers=headers)).status_code == 401
            assert (await refresh(server, issue["refresh_token"])).json()["error"] == "invalid_grant"
    assert await database.fetchval("SELECT count(*) FROM audit_entries WHERE action = 'session.replay'") >= 1


async def test_whoever_does_not_get_the_answer_asks_again(
    apictl: Apictl, environment: dict[str, str], servers: Servers, database: asyncpg.Connection
) -> None:
    """Row 9: the answer is cut off after the commit, and the same token brings it once more."""
    port = urlsplit(str(servers[0].base_url)).port
    assert port is not None
    tokens = [await issued(apictl, environment, SUPERUSER) for _ in range(10)]
    refreshes = [one["refresh_token"] for one in tokens]
    async with (
        cut_after_the_answer(port) as url,
        httpx2.AsyncClient(base_url=url, trust_env=False, limits=httpx2.Limits(max_keepalive_connections=0)) as failing,
    ):
        for turn in range(20):
            cut = await asyncio.gather(*(refresh(failing, one) for one in refreshes), return_exceptions=True)
            assert all(isinstance(one, httpx2.TransportError) for one in cut)
            assert await database.fetchval("SELECT array_agg(DISTINCT rotation) FROM sessions") == [turn + 1]
            answers = await asyncio.gather(*(refresh(servers[turn % 2], one) for one in refreshes))
            assert [answer.status_code for answer in answers] == [200] * 10
            refreshes = [answer.json()["refresh_token"] for answer in answers]
    assert await database.fetchval("SELECT count(*) FROM sessions WHERE revoked_at IS NOT NULL") == 0


async def test_what_was_taken_is_gone_within_a_second_in_every_process(
    apictl: Apictl, environment: dict[str, str], servers: Servers
) -> None:
    """Row 11: fifty clients go on asking; the last of them that is let in asked before a second was over."""
    scope = ("--scope", "users:read")
    assert (await apictl("create-role", "reader", *scope, environment=environment)).code == 0
    people = {name: f"{name}@example.com" for name in ENDINGS}
    tokens = {}
    for name, user in people.items():
        for line in (("create-user", user, "--no-password"), ("grant-role", user, "reader")):
            assert (await apictl(*line, environment=environment)).code == 0
        tokens[name] = await issued(apictl, environment, user)
    log: dict[str, list[tuple[float, int]]] = {name: [] for name in ENDINGS}
    stop = asyncio.Event()
    let_in = {name: asyncio.Event() for name in ENDINGS}

    async def hammer(name: str, server: httpx2.AsyncClient) -> None:
        headers = {"Authorization": f"Bearer {tokens[name]['access_token']}"}
        while not stop.is_set():
            begun = time.monotonic()
            answer = await server.get("/v1/users", headers=headers)
            log[name].append((begun, answer.status_code))
            if answer.status_code == 200:
                let_in[name].set()
            await asyncio.sleep(0.05)

    clients = [(name, server) for name in ENDINGS for server in servers] * 4
    hammering = [asyncio.create_task(hammer(name, server)) for name, server in clients + clients[:2]]
    await asyncio.wait_for(asyncio.gather(*(event.wait() for event in let_in.values())), 30)
    taken = {}
    for name, (verb, _) in ENDINGS.items():
        filled = [part.format(user=people[name], session=tokens[name]["session_id"]) for part in verb]
        given = f"{PASSWORD} again" if "--password-stdin" in verb else None
        ended = await apictl(*filled, environment=environment, stdin=given)
        assert ended.code == 0, ended.err
        taken[name] = time.monotonic()
    await asyncio.sleep(1.2)  # what comes later than a second must have had the time to come
    stop.set()
    await asyncio.gather(*hammering)
    for name, (_, expected) in ENDINGS.items():
        late = {status for begun, status in log[name] if begun > taken[name] + 1}
        assert late == expected, name
