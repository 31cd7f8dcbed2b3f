"""The recipes for users who come from elsewhere: everybody logs in with the password that they had."""

import asyncpg
import httpx2

from api.users.models import User
from tests.conftest import log_in
from tests.examples.test_examples import EXAMPLES, bash
from tests.support.processes import APICTL, Finished


async def imported(folder: str, file: str, environment: dict[str, str]) -> Finished:
    """Run the line that the recipe has."""
    environment = environment | {"PATH": f"{APICTL.parent}:{environment['PATH']}"}
    line = f"cd {EXAMPLES / folder} && python3 convert.py <{file} | apictl import-users - --format jsonl -o json"
    return await bash(line, environment)


async def logs_in(client: httpx2.AsyncClient, database: asyncpg.Connection, email: str, password: str) -> None:
    """Log in twice; the first login replaces the hash that came from elsewhere by one of ours."""
    query = "SELECT password_hash FROM users WHERE email = $1"
    foreign = await database.fetchval(query, email)
    await log_in(client, email, password)
    own = await database.fetchval(query, email)
    assert own != foreign
    assert own.startswith("$argon2id$")
    await log_in(client, email, password)
    assert await database.fetchval(query, email) == own


async def refused(client: httpx2.AsyncClient, email: str, password: str) -> bool:
    form = {"grant_type": "password", "username": email, "password": password}
    response = await client.post("/v1/auth/token", data=form)
    return (response.status_code, response.json()["error"]) == (400, "invalid_grant")


async def test_keycloak(environment: dict[str, str], client: httpx2.AsyncClient, database: asyncpg.Connection) -> None:
    ended = await imported("keycloak", "realm-export.json", environment)
    assert ended.code == 0, ended.err
    assert (ended.json()["rows"], ended.json()["created"]) == (4, 4)
    for said in ("create-service-account stock", "kiosk: has no", "ada: has a second factor"):
        assert said in ended.err
    await logs_in(client, database, "ada@example.com", "an engine of analysis, 1843")
    await logs_in(client, database, "grace@example.com", "the first actual bug, 1947")
    assert await refused(client, "ada@example.com", "the first actual bug, 1947")
    assert await refused(client, "eve@example.com", "nobody should get in here")
    found = await database.fetch("SELECT * FROM users ORDER BY email")
    assert [(row["full_name"], row["is_active"], row["email_verified_at"] is not None) for row in found] == [
        ("Ada Lovelace", True, True),
        ("Eve", False, True),
        ("Fred Federated", True, True),
        ("Grace Hopper", True, False),
    ]
    assert [row["created_at"].year for row in found] == [2024, 2024, 2024, 2023]
    assert (await imported("keycloak", "realm-export.json", environment)).json()["unchanged"] == 4


async def test_django(
    environment: dict[str, str], client: httpx2.AsyncClient, database: asyncpg.Connection, superuser: User
) -> None:
    ended = await imported("django", "users.json", environment)
    assert ended.code == 0, ended.err
    assert (ended.json()["rows"], ended.json()["created"]) == (4, 4)
    assert "cron: has no" in ended.err
    await logs_in(client, database, "rosa@example.com", "the first of all admins")
    await logs_in(client, database, "ada@example.com", "a poem for the machine")
    assert await refused(client, "bob@example.com", "left the house long ago")
    assert await refused(client, "sso@example.com", "K" * 40)
    found = await database.fetch("SELECT * FROM users WHERE email <> $1 ORDER BY email", superuser.email)
    assert [(row["full_name"], row["is_active"], row["is_superuser"]) for row in found] == [
        ("Ada Lovelace", True, False),
        ("Bob", False, False),
        ("Rosa Root", True, True),
        ("", True, False),
    ]
    assert [row["created_at"].year for row in found] == [2023, 2019, 2023, 2024]
