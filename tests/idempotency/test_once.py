"""What is sent again under the same key is done once, and answered as it was the first time: both doors."""

import asyncio
import json
import os
import re
from typing import Any, Final
from uuid import uuid4

import asyncpg
import httpx2
import pytest
from fastapi import FastAPI
from fastapi.routing import APIRoute, iter_route_contexts

from api.core.dependencies import SAFE, takes
from api.core.plans import Plan
from api.tokens.dependencies import get_session_once
from api.users.models import User
from tests.conftest import PASSWORD, signed_in
from tests.support.processes import Apictl
from tests.support.server import serving

THOROUGH: Final = "APICTL_TEST_THOROUGH" in os.environ
KEY: Final = "3b241101-e2bb-4255-8caf-4136c566a962"
ADA: Final = {"email": "ada@example.com", "full_name": "Ada"}

# What may be sent again anyway, or has its own way.
WITHOUT: Final = {
    "/v1/auth/token": "a second login is a second session, which harms nobody",
    "/v1/auth/revoke": "what is ended stays ended",
    "/v1/audit/verification": "it changes nothing",
    "/v1/auth/introspect": "it changes nothing",
    "/v1/auth/device": "a second device code runs out by itself",
    "/v1/auth/passkey": "a second challenge runs out by itself",
    "/v1/auth/register": "a second mail in the same minute is none",
    "/v1/auth/forgot-password": "a second mail in the same minute is none",
    "/v1/auth/complete-registration": "a link is good once",
    "/v1/auth/reset-password": "a link is good once",
    "/v1/auth/confirm-email": "a link is good once",
    "/v1/bulk/users": "it is many transactions: `if_exists=skip` is what makes it safe to send again",
    "/v1/migrations/upgrade": "at head already, it changes nothing",
}


# The superuser was there before.
CREATED: Final = (
    "SELECT count(*) FROM audit_entries WHERE action = 'user.create' AND detail->>'email' <> 'root@example.com'"
)


def test_every_route_that_changes_something_takes_a_key_or_says_why_not(application: FastAPI) -> None:
    without = set()
    for route in iter_route_contexts(application.routes):
        if not isinstance(route.original_route, APIRoute) or not (route.methods or set()) - SAFE:
            continue
        if takes(route.dependant, get_session_once):
            # Without a plan, there is no answer that could be kept.
            Plan(route)
        else:
            without.add(route.path)
    assert without == set(WITHOUT)


async def test_sent_again_it_is_answered_as_before_and_not_done(
    admin: httpx2.AsyncClient, database: asyncpg.Connection
) -> None:
    first = await admin.post("/v1/users", json=ADA, headers={"Idempotency-Key": KEY})
    assert first.status_code == 201, first.text
    # The draft's own form has quotes.
    again = await admin.post("/v1/users", json=ADA, headers={"Idempotency-Key": f'"{KEY}"'})
    assert again.headers.pop("idempotency-replayed") == "true"
    assert again.headers.pop("x-request-id") != first.headers.pop("x-request-id")
    assert (again.status_code, again.content, dict(again.headers)) == (201, first.content, dict(first.headers))
    assert await database.fetchval(CREATED) == 1
    assert await database.fetchval("SELECT count(*) FROM users WHERE email = $1", ADA["email"]) == 1


async def test_a_key_stands_for_one_request_of_one_user(
    app: FastAPI, admin: httpx2.AsyncClient, as_ada: httpx2.AsyncClient
) -> None:
    headers = {"Idempotency-Key": KEY}
    assert (await admin.patch("/v1/users/me", json={"full_name": "A"}, headers=headers)).status_code == 200
    for method, path, body, more in (
        ("PATCH", "/v1/users/me", {"full_name": "B"}, {}),
        ("PATCH", "/v1/users/ada@example.com", {"full_name": "A"}, {}),
        ("PATCH", "/v1/users/me", {"full_name": "A"}, {"If-Match": '"1"'}),
        ("POST", "/v1/users?if_exists=skip", {"email": "a@example.com"}, {}),
    ):
        refused = await admin.request(method, path, json=body, headers=headers | more)
        assert (refused.status_code, refused.json()["code"]) == (422, "idempotency-key-reused"), path
    theirs = await as_ada.patch("/v1/users/me", json={"full_name": "A"}, headers=headers)
    assert (theirs.status_code, "idempotency-replayed" in theirs.headers) == (200, False)


async def test_what_failed_or_was_only_tried_is_not_kept(
    admin: httpx2.AsyncClient, database: asyncpg.Connection
) -> None:
    headers = {"Idempotency-Key": KEY}
    tried = await admin.post("/v1/users", json=ADA, headers=headers | {"Prefer": "dry-run"})
    assert tried.status_code == 201
    await admin.post("/v1/users", json=ADA)
    assert (await admin.post("/v1/users", json=ADA, headers=headers)).json()["code"] == "email-taken"
    assert await database.fetchval("SELECT count(*) FROM idempotency_keys") == 0
    await admin.delete(f"/v1/users/{ADA['email']}")
    done = await admin.post("/v1/users", json=ADA, headers=headers)
    assert (done.status_code, "idempotency-replayed" in done.headers) == (201, False)
    # What would be now is another question than what was.
    tried = await admin.post("/v1/users", json=ADA, headers=headers | {"Prefer": "dry-run"})
    assert tried.json()["code"] == "email-taken"


async def test_what_cannot_be_kept_is_not_done(admin: httpx2.AsyncClient, database: asyncpg.Connection) -> None:
    await database.execute("ALTER TABLE idempotency_keys ADD CHECK (false) NOT VALID")
    refused = await admin.post("/v1/users", json=ADA, headers={"Idempotency-Key": KEY})
    assert refused.status_code >= 400
    assert await database.fetchval("SELECT count(*) FROM users WHERE email = $1", ADA["email"]) == 0


@pytest.mark.parametrize("key", ["", "short", "x" * 256, "a space in the middle", 'a"quote"in-the-middle', "é" * 20])
async def test_what_is_no_key_is_refused(admin: httpx2.AsyncClient, key: str) -> None:
    refused = await admin.post("/v1/users", json=ADA, headers={b"Idempotency-Key": key.encode()})
    assert (refused.status_code, refused.json()["code"]) == (400, "bad-request")


async def test_a_secret_is_answered_again_and_is_nowhere_in_the_database(
    admin: httpx2.AsyncClient, superuser: User, database: asyncpg.Connection
) -> None:
    asked = {"user": str(superuser.id), "name": "deploy", "scopes": ["users:read"]}
    headers = {"Idempotency-Key": KEY}
    first, again = [await admin.post("/v1/api-keys", json=asked, headers=headers) for _ in range(2)]
    assert first.status_code == 201, first.text
    assert again.json() == first.json()
    assert await database.fetchval("SELECT count(*) FROM api_keys") == 1
    (row,) = await database.fetch("SELECT * FROM idempotency_keys")
    secret = first.json()["key"].encode()
    stored = b"".join(value for value in row.values() if isinstance(value, bytes))
    assert row["answer"]
    assert all(part not in stored for part in (secret, secret[-16:], KEY.encode()))


async def test_after_a_day_it_is_forgotten(admin: httpx2.AsyncClient, database: asyncpg.Connection) -> None:
    async def rename() -> httpx2.Response:
        return await admin.patch("/v1/users/me", json={"full_name": "A"}, headers={"Idempotency-Key": KEY})

    await rename()
    lasts = "SELECT extract(epoch FROM expires_at - created_at)::int FROM idempotency_keys"
    assert await database.fetchval(lasts) == 24 * 3600
    # What is over is removed by whoever comes next.
    await database.execute(
        "INSERT INTO idempotency_keys (digest, fingerprint, answer, expires_at) "
        "SELECT n::text::bytea, '', '', now() FROM generate_series(1, 10) n"
    )
    await database.execute("UPDATE idempotency_keys SET expires_at = now() - interval '1 second'")
    assert "idempotency-replayed" not in (await rename()).headers
    assert await database.fetchval("SELECT count(*) FROM idempotency_keys") <= 2
    assert (await rename()).headers["idempotency-replayed"] == "true"


async def test_thirty_at_once_are_one(admin: httpx2.AsyncClient, database: asyncpg.Connection) -> None:
    async def create() -> httpx2.Response:
        return await admin.post("/v1/users", json=ADA, headers={"Idempotency-Key": KEY})

    answers = await asyncio.gather(*(create() for _ in range(30)))
    done = [answer for answer in answers if answer.status_code == 201]
    waiting = [answer for answer in answers if answer.status_code != 201]
    assert sum("idempotency-replayed" not in answer.headers for answer in done) == 1
    assert {answer.json()["id"] for answer in done} == {(await create()).json()["id"]}
    assert {answer.json()["code"] for answer in waiting} <= {"request-in-progress"}
    assert all(answer.headers["retry-after"] == "1" for answer in waiting)
    assert await database.fetchval(CREATED) == 1


async def test_of_many_at_once_one_is_done_also_where_a_hash_is_waited_for(
    admin: httpx2.AsyncClient, database: asyncpg.Connection
) -> None:
    """The transaction, and with it the turn, ends before the hash; it is the row that decides."""

    async def enroll() -> httpx2.Response:
        asked = {"current_password": PASSWORD}
        return await admin.post("/v1/users/me/factors/totp", json=asked, headers={"Idempotency-Key": KEY})

    answers = await asyncio.gather(*(enroll() for _ in range(6)))
    assert {answer.status_code for answer in answers} <= {201, 409}, [answer.text for answer in answers]
    ids = {answer.json()["id"] for answer in answers if answer.status_code == 201}
    assert ids == {(await enroll()).json()["id"]}
    assert await database.fetchval("SELECT count(*) FROM second_factors") == 1


async def test_whoever_may_do_less_by_now_is_not_shown_what_was_answered(
    admin: httpx2.AsyncClient, superuser: User, database: asyncpg.Connection
) -> None:
    headers = {"Idempotency-Key": KEY}
    asked = {"user": str(superuser.id), "name": "deploy", "scopes": ["users:read"]}
    assert (await admin.post("/v1/api-keys", json=asked, headers=headers)).status_code == 201
    await database.execute("UPDATE users SET is_superuser = false")
    refused = await admin.post("/v1/api-keys", json=asked, headers=headers)
    assert (refused.status_code, refused.json()["code"]) == (403, "missing-scope")


async def test_what_is_cut_from_its_answer_has_one_effect(
    app: FastAPI, superuser: User, environment: dict[str, str], database: asyncpg.Connection
) -> None:
    """The client hangs up when it has sent everything, and sends it again until it is answered."""
    token, _ = await signed_in(app, superuser.id)
    count = 500 if THOROUGH else 40

    async def create(port: int, number: int, *, hang_up: bool) -> bytes:
        body = b'{"email": "u%d@example.com"}' % number
        head = (
            f"POST /v1/users HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nAuthorization: Bearer {token}\r\n"
            f"Idempotency-Key: {keys[number]}\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(head.encode() + body)
        await writer.drain()
        if hang_up:
            writer.transport.abort()
            return b""
        answer = await reader.read()
        writer.close()
        return answer

    async def until_answered(port: int, number: int) -> None:
        await create(port, number, hang_up=True)
        for _ in range(100):
            answer = await create(port, number, hang_up=False)
            if b"201 Created" in answer:
                return
            assert b"request-in-progress" in answer, answer

    keys = [str(uuid4()) for _ in range(count)]
    with serving("serve", environment=environment) as server:
        port = httpx2.URL(server.url).port
        assert port is not None
        for start in range(0, count, 20):
            await asyncio.gather(*(until_answered(port, start + number) for number in range(20)))
    assert await database.fetchval("SELECT count(*) FROM users WHERE email LIKE 'u%@example.com'") == count
    assert await database.fetchval("SELECT count(*) FROM idempotency_keys") == count
    assert await database.fetchval(CREATED) == count


async def test_on_the_terminal(apictl: Apictl, environment: dict[str, str], database: asyncpg.Connection) -> None:
    async def run(*line: str, job: str, code: int = 0) -> dict[str, Any]:
        # Each attempt of a CI job has another name.
        ended = await apictl(
            *line, "--idempotency-key", KEY, "-o", "json", environment=environment | {"CI_JOB_ID": job}
        )
        assert ended.code == code, ended.err
        said: dict[str, Any] = ended.json() if code == 0 else json.loads(ended.err)
        return said | {"told": ended.err}

    line = ("create-user", "ada@example.com", "--generate-password")
    first, again = [await run(*line, job=job) for job in ("1", "2")]
    assert again.pop("told") == "It was done before, under this --idempotency-key: this is what came of it then.\n"
    assert first.pop("told") == ""
    assert again == first
    assert first["changed"]
    assert len(first["generated_password"]) >= 15
    assert await database.fetchval(CREATED) == 1
    refused = await run("create-user", "eve@example.com", "--generate-password", job="3", code=6)
    assert refused["code"] == "idempotency-key-reused"
    assert (await run(*line, "--dry-run", job="4", code=5))["code"] == "email-taken"


async def test_the_terminal_asks_a_server_again_when_its_answer_was_cut(
    app: FastAPI, apictl: Apictl, superuser: User, environment: dict[str, str], database: asyncpg.Connection
) -> None:
    """A proxy hands on what is sent, and hangs up on the first answer."""
    token, _ = await signed_in(app, superuser.id)
    cut = 0

    with serving("serve", environment=environment) as server:
        port = httpx2.URL(server.url).port

        async def proxy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            nonlocal cut
            head = await reader.readuntil(b"\r\n\r\n")
            length = re.search(rb"content-length: (\d+)", head, re.IGNORECASE)
            body = await reader.readexactly(int(length[1])) if length else b""
            inner, outer = await asyncio.open_connection("127.0.0.1", port)
            outer.write(head.replace(b"keep-alive", b"close") + body)
            answer = await inner.read()
            outer.close()
            if cut or not answer.startswith(b"HTTP/1.1 201"):
                writer.write(answer)
            else:
                cut += 1
            writer.close()

        listening = await asyncio.start_server(proxy, "127.0.0.1", 0)
        async with listening:
            url = f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}"
            ended = await apictl(
                *("create-user", "ada@example.com", "--password-stdin", "--server", url, "-o", "json"),
                environment={"APICTL_TOKEN": token, "PATH": os.environ["PATH"]},
                stdin=PASSWORD,
            )
            twice = [
                await apictl(
                    *("create-role", "support", "--idempotency-key", KEY, "--server", url),
                    environment={"APICTL_TOKEN": token, "PATH": os.environ["PATH"]},
                )
                for _ in range(2)
            ]
    assert (ended.code, cut) == (0, 1), ended.err
    assert [(one.code, "done before" in one.err) for one in twice] == [(0, False), (0, True)]
    assert twice[0].out == twice[1].out
    assert ended.json()["changed"]
    assert await database.fetchval(CREATED) == 1
