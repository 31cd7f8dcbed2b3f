"""What those who watch are told: alive, ready, or which of the reasons why not."""

import re

import asyncpg
import httpx2
import pytest
from asgi_lifespan import LifespanManager
from pydantic import SecretStr

from api.config import Settings
from api.main import create_app


async def test_alive_and_ready(client: httpx2.AsyncClient) -> None:
    for path in ("/health/live", "/health/ready"):
        answer = await client.get(path)
        assert (answer.status_code, answer.json()) == (200, {"status": "ok"})


async def asked(settings: Settings, path: str) -> httpx2.Response:
    app = create_app(settings)
    transport = httpx2.ASGITransport(app=app)
    async with LifespanManager(app), httpx2.AsyncClient(transport=transport, base_url="http://testserver") as client:
        return await client.get(path)


async def test_an_empty_database_is_behind(settings: Settings, empty_url: str) -> None:
    empty = settings.model_copy(update={"database_url": SecretStr(empty_url)})
    answer = await asked(empty, "/health/ready")
    assert (answer.status_code, answer.json()["code"]) == (503, "schema-behind")
    assert answer.json()["hint"] == "run: apictl migrate"
    # Every other route that reads says the same, and not 500.
    assert (await asked(empty, "/health/live")).status_code == 200


async def test_a_database_from_the_future_is_named(client: httpx2.AsyncClient, database: asyncpg.Connection) -> None:
    await database.execute("UPDATE alembic_version SET version_num = 'fedcba987654'")
    answer = await client.get("/health/ready")
    assert (answer.status_code, answer.json()["code"]) == (503, "database-newer")
    assert "fedcba987654" in answer.json()["detail"]


async def test_no_database_is_unreachable_and_the_process_is_alive(settings: Settings) -> None:
    nowhere = settings.model_copy(update={"database_url": SecretStr("postgresql://nobody@127.0.0.1:1/none")})
    answer = await asked(nowhere, "/health/ready")
    assert (answer.status_code, answer.json()["code"]) == (503, "database-unreachable")
    assert (await asked(nowhere, "/health/live")).status_code == 200


async def test_the_inside_is_for_the_log(settings: Settings, server_url: str, caplog: pytest.LogCaptureFixture) -> None:
    """Wrong credentials are the operator's to see; a stranger learns that it does not work, and under which id."""
    wrong = re.sub(r":[^:@/]+@", ":wrong-password@", server_url)
    unusable = settings.model_copy(update={"database_url": SecretStr(wrong)})
    answer = await asked(unusable, "/health/ready")
    assert (answer.status_code, answer.json()["code"]) == (503, "bad-settings")
    assert "cause" not in answer.json()
    assert "apictl" not in answer.json()["detail"]
    logged = next(line for line in caplog.messages if answer.headers["X-Request-Id"] in line)
    assert "password authentication failed" in logged
    assert "wrong-password" not in caplog.text


async def test_a_database_that_comes_back_is_ready_again(
    client: httpx2.AsyncClient, database: asyncpg.Connection
) -> None:
    assert (await client.get("/health/ready")).status_code == 200
    await database.execute(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
        "WHERE datname = current_database() AND pid <> pg_backend_pid()"
    )
    statuses = [(await client.get("/health/ready")).status_code for _ in range(3)]
    # The pool's connections are dead; at most the first request finds out.
    assert statuses[1:] == [200, 200]
