"""A database that hangs, and one that is not heard of again: everybody has an answer in time, and it is true."""

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Annotated, Any, Final

import asyncpg
import httpx2
import pytest
from fastapi import Cookie, FastAPI
from fastapi.responses import StreamingResponse
from fastapi.routing import iter_route_contexts
from pydantic import SecretStr
from sqlalchemy import text

from api.config import Settings
from api.core.errors import DatabaseTimeout
from api.core.front import Application, Plans
from api.core.runtime import Runtime
from api.main import LONG_WORK
from faults.proxy import Proxy, before_database
from tests.conftest import SUPERUSER
from tests.support.postgres import somebody_waits
from tests.support.processes import Apictl

OUR_OWN: Final = (
    "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid() "
    "AND state <> 'idle' AND backend_type = 'client backend'"
)


@pytest.fixture
async def through(database_url: str) -> AsyncIterator[tuple[Proxy, str]]:
    """A network that fails, and the URL of the database behind it."""
    async with before_database(database_url) as found:
        yield found


@pytest.fixture
def settings(settings: Settings, request: pytest.FixtureRequest) -> Settings:
    """A request may take as little as it can be told to, and a statement longer than that."""
    more: dict[str, Any] = {"request_timeout": 2.0, "statement_timeout": 60.0, "pool_timeout": 0.5}
    if "through" in request.fixturenames:
        more |= {"statement_timeout": 1.0, "database_url": SecretStr(request.getfixturevalue("through")[1])}
    return settings.model_copy(update=more)


def test_what_has_no_deadline_says_why(application: FastAPI) -> None:
    plans = Plans(iter_route_contexts(application.routes), LONG_WORK)
    for (method, path), why in LONG_WORK.items():
        found = plans.find({"method": method, "path": path})
        assert found is not None, f"there is no {method} {path}"
        assert (found[0].is_long, len(why) > 20) == (True, True)
    found = plans.find({"method": "PATCH", "path": "/v1/users/me"})
    assert found is not None
    assert not found[0].is_long


async def test_a_request_that_takes_too_long_is_undone_and_its_connection_is_good(
    app: FastAPI, admin: httpx2.AsyncClient, database: asyncpg.Connection
) -> None:
    await admin.get("/v1/users/me")
    await database.execute("BEGIN; LOCK users")
    began = time.monotonic()
    changing = asyncio.create_task(admin.patch("/v1/users/me", json={"full_name": "x"}))
    # What waits for others' lookups waits no longer than what waits for the database.
    others = [asyncio.create_task(admin.get("/v1/users/me")) for _ in range(5)]
    for answer in await asyncio.gather(changing, *others):
        assert (answer.status_code, answer.json()["code"]) == (504, "request-timeout"), answer.text
        assert answer.headers["Content-Type"] == "application/problem+json"
        assert answer.headers["Retry-After"] == "1"
        assert answer.headers["X-Request-Id"] == answer.json()["request_id"]
    assert 1.0 < time.monotonic() - began < 2.0
    await database.execute("COMMIT")
    # The database has heard of it, and nobody is left who could do it yet.
    async with asyncio.timeout(5):
        while await database.fetchval(OUR_OWN):
            await asyncio.sleep(0.01)
    assert await database.fetchval("SELECT full_name FROM users") == ""
    assert isinstance(app, Application)
    assert app.deadlines.under_way == {}
    assert app.state.runtime.engine.pool.checkedout() == 0
    answer = await admin.patch("/v1/users/me", json={"full_name": "y"})
    assert (answer.status_code, answer.json()["full_name"]) == (200, "y")


async def test_long_work_begins_when_its_body_has_come(
    app: FastAPI, admin: httpx2.AsyncClient, client: httpx2.AsyncClient, database: asyncpg.Connection
) -> None:
    """Whoever shows nothing, and sends a state by the byte, is cut off; a state that waits for the database is not."""

    async def by_the_byte() -> AsyncIterator[bytes]:
        yield b"{"
        await asyncio.sleep(60)

    for path in ("/v1/plan", "/v1/users"):
        answer = await client.post(path, content=by_the_byte(), headers={"Content-Type": "application/json"})
        # Theirs, and no error of the server's that wakes somebody.
        assert (answer.status_code, answer.json()["code"]) == (408, "request-too-slow")
    await database.execute("BEGIN; LOCK users")
    planning = asyncio.create_task(admin.post("/v1/plan", json={"owner": "me", "users": [{"email": SUPERUSER}]}))
    await somebody_waits(database)
    # Hours go by.
    assert isinstance(app, Application)
    app.deadlines.look(asyncio.get_running_loop().time() + 10_000)
    await database.execute("COMMIT")
    assert (await planning).status_code == 200


async def test_what_goes_the_usual_way_has_a_deadline_too(app: FastAPI, client: httpx2.AsyncClient) -> None:
    async def waits(cookie: Annotated[str, Cookie()] = "") -> None:
        await asyncio.sleep(60)

    async def begins(cookie: Annotated[str, Cookie()] = "") -> Any:
        async def pieces() -> AsyncIterator[bytes]:
            yield b"a"
            await asyncio.sleep(1.5)
            yield b"b"

        return StreamingResponse(pieces())

    own = FastAPI()
    own.get("/waits")(waits)
    own.get("/begins")(begins)
    app.mount("/own", own)
    try:
        cut_off, whole = await asyncio.gather(client.get("/own/waits"), client.get("/own/begins"))
    finally:
        app.router.routes.pop()
    assert (cut_off.status_code, cut_off.json()["code"]) == (504, "request-timeout")
    assert (whole.status_code, whole.content) == (200, b"ab")


SLOW_COMMIT: Final = """
CREATE FUNCTION wait() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_sleep(60); RETURN NULL; END $$;
CREATE CONSTRAINT TRIGGER wait AFTER UPDATE ON users DEFERRABLE INITIALLY DEFERRED
FOR EACH ROW EXECUTE FUNCTION wait();
"""


async def test_a_commit_that_is_cut_off_is_not_called_undone(
    admin: httpx2.AsyncClient, database: asyncpg.Connection
) -> None:
    await database.execute(SLOW_COMMIT)
    answer = await admin.patch("/v1/users/me", json={"full_name": "x"})
    assert (answer.status_code, answer.json()["code"]) == (504, "outcome-unknown")
    # A dry run is undone, whatever happens to it.
    answer = await admin.patch("/v1/users/me", json={"full_name": "x"}, headers={"Prefer": "dry-run"})
    assert answer.status_code == 200


async def test_a_commit_whose_answer_is_lost_is_not_called_a_failure(
    through: tuple[Proxy, str], admin: httpx2.AsyncClient, database: asyncpg.Connection,
    apictl: Apictl, environment: dict[str, str],
) -> None:  # fmt: skip
    """Of a transaction, and of the one statement that creates a user; from both doors."""
    proxy, url = through
    proxy.cut_at = b"COMMIT"
    answer = await admin.patch("/v1/users/me", json={"full_name": "x"})
    assert (answer.status_code, answer.json()["code"]) == (504, "outcome-unknown")
    assert "look first whether it was done" in answer.json()["hint"]
    assert await database.fetchval("SELECT full_name FROM users") == "x"
    environment["APICTL_DATABASE_URL"] = url
    ended = await apictl("update-user", SUPERUSER, "--full-name", "y", environment=environment)
    assert (ended.code, "look first whether it was done" in ended.err, "Traceback" in ended.err) == (7, True, False)
    assert await database.fetchval("SELECT full_name FROM users") == "y"
    proxy.cut_at = b"INSERT INTO users"
    assert (await admin.post("/v1/users", json={"email": "known@example.com"})).status_code == 504
    proxy.cut_at = b"ada@example.com"
    answer = await admin.post("/v1/users", json={"email": "ada@example.com"})
    assert (answer.status_code, answer.json()["code"]) == (504, "outcome-unknown")
    assert await database.fetchval("SELECT count(*) FROM users WHERE email = 'ada@example.com'") == 1
    # Whatever reads has not done anything.
    proxy.cut_at = b"FROM users"
    answer = await admin.get("/v1/users")
    assert (answer.status_code, answer.json()["code"]) == (503, "database-unreachable")


async def test_a_network_that_falls_silent(
    through: tuple[Proxy, str], app: FastAPI, admin: httpx2.AsyncClient, client: httpx2.AsyncClient
) -> None:
    """Everybody has an answer in time, health at once; and when it is back, all of it is."""
    proxy, _ = through
    assert (await client.get("/health/ready")).status_code == 200
    await asyncio.gather(*(admin.get("/v1/users") for _ in range(12)))
    proxy.hang()
    began = time.monotonic()
    asked = [
        asyncio.create_task(admin.request(method, path, json=body))
        for method, path, body in [
            ("GET", "/v1/users/me", None),
            ("GET", "/v1/users", None),
            ("PATCH", "/v1/users/me", {"full_name": "x"}),
            ("POST", "/v1/users", {"email": "ada@example.com"}),
        ]
        * 10
    ]
    assert (await client.get("/health/live")).status_code == 200
    assert time.monotonic() - began < 0.2
    ready = await client.get("/health/ready")
    assert (ready.status_code, ready.json()["code"]) == (503, "database-unreachable")
    assert 0.9 < time.monotonic() - began < 1.3
    answers = await asyncio.gather(*asked)
    assert time.monotonic() - began < 2.1
    assert {answer.status_code for answer in answers} <= {503, 504}
    assert all(answer.headers["Retry-After"] == "1" for answer in answers)
    proxy.heal(forgetful=True)
    began = time.monotonic()
    statuses = [
        (await one.get(path)).status_code
        for one, path in [(client, "/health/ready"), (admin, "/v1/users/me"), (admin, "/v1/users")]
    ]
    assert (statuses, time.monotonic() - began < 1.0) == ([200] * 3, True)
    # Whoever goes on a connection of the pool finds out too, once; the others have new ones.
    engine = app.state.runtime.engine
    connections = [await engine.connect() for _ in range(3)]
    for one in connections:
        await one.close()
    proxy.hang()
    proxy.heal(forgetful=True)
    with pytest.raises(DatabaseTimeout):
        async with app.state.runtime.transaction() as session:
            await session.execute(text("SELECT 1"))
    began = time.monotonic()
    for _ in range(4):
        async with app.state.runtime.transaction() as session:
            await session.execute(text("SELECT 1"))
    assert time.monotonic() - began < 0.5


async def test_a_command_on_a_network_that_falls_silent_ends(
    through: tuple[Proxy, str], apictl: Apictl, environment: dict[str, str], superuser: object
) -> None:
    proxy, url = through
    environment |= {"APICTL_DATABASE_URL": url, "APICTL_CONNECT_TIMEOUT": "0.5", "APICTL_STATEMENT_TIMEOUT": "0.5"}
    proxy.hang()
    began = time.monotonic()
    ended = await apictl("update-user", SUPERUSER, "--full-name", "x", environment=environment)
    assert (ended.code, ended.err.startswith("error: "), "hint: " in ended.err) == (7, True, True), ended.err
    assert time.monotonic() - began < 3


async def test_when_requests_hold_every_connection_health_has_its_own(
    app: FastAPI, admin: httpx2.AsyncClient, client: httpx2.AsyncClient, database: asyncpg.Connection
) -> None:
    number = app.state.settings.pool_size
    await admin.get("/v1/users/me")
    await database.execute("BEGIN; LOCK users IN SHARE MODE")
    held = [asyncio.create_task(admin.patch("/v1/users/me", json={"full_name": "x"})) for _ in range(number * 10)]
    await somebody_waits(database, number=number)
    assert (await client.get("/health/ready")).status_code == 200
    runtime: Runtime = app.state.runtime
    assert runtime.engine.pool.checkedout() == number  # type: ignore[attr-defined]  # it is a queue
    answers = await asyncio.gather(*held)
    await database.execute("COMMIT")
    assert {answer.status_code for answer in answers} == {503, 504}
    assert {answer.headers["Retry-After"] for answer in answers} == {"1"}
