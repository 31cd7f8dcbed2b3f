"""Migrations through each door, and what many do at once."""

import asyncio
import json
import socket
from pathlib import Path

import asyncpg
import httpx2
import pytest

from api.migrations.revisions import chain, head
from tests.support import postgres
from tests.support.doors import Door
from tests.support.processes import Apictl, bare_environment


async def test_both_doors_show_the_same(http_door: Door, cli_door: Door) -> None:
    for verb in ("migration-status", "migrate"):
        shown = [(await door.do(verb)).body for door in (http_door, cli_door)]
        assert shown[0] == shown[1]
        assert (shown[0]["current"], shown[0]["head"], shown[0]["pending"]) == (head(), head(), [])


async def test_a_run_is_seen_by_who_looks(door: Door, database: asyncpg.Connection) -> None:
    assert (await door.do("migration-status")).body["is_running"] is False
    await database.execute("BEGIN; SELECT pg_advisory_xact_lock(hashtextextended('apictl:migrations', 0))")
    assert (await door.do("migration-status")).body["is_running"] is True


async def test_an_empty_database_is_migrated_once_by_ten_at_once(apictl: Apictl, empty_url: str) -> None:
    environment = bare_environment(APICTL_DATABASE_URL=empty_url)
    before = await apictl("migration-status", "-o", "json", environment=environment)
    assert before.json()["current"] is None
    assert [item["id"] for item in before.json()["pending"]] == [revision.id for revision in chain()]

    ended = await asyncio.gather(*(apictl("migrate", "-o", "json", environment=environment) for _ in range(10)))
    assert [one.code for one in ended] == [0] * 10, [one.err for one in ended]
    assert sorted(one.json()["changed"] for one in ended) == [False] * 9 + [True]
    assert {one.json()["current"] for one in ended} == {head()}
    async with postgres.connected(empty_url) as connection:
        entries = await connection.fetch("SELECT detail FROM audit_entries WHERE action = 'migration.upgrade'")
    (run,) = [json.loads(entry["detail"]) for entry in entries]
    assert run.pop("seconds") > 0
    assert run == {"from": None, "to": head(), "host": socket.gethostname(), "outcome": "succeeded"}


async def test_a_dry_run_makes_no_database(apictl: Apictl, tmp_path: Path) -> None:
    home = tmp_path / "home"
    ended = await apictl("migrate", "--dry-run", environment=bare_environment(APICTL_HOME=str(home)))
    assert (ended.code, home.exists()) == (12, False)


async def test_a_dry_run_migrates_nothing(apictl: Apictl, empty_url: str) -> None:
    environment = bare_environment(APICTL_DATABASE_URL=empty_url)
    ended = await apictl("migrate", "--dry-run", "-o", "json", environment=environment)
    assert (ended.code, ended.json()["changed"], ended.json()["dry_run"]) == (0, True, True)
    async with postgres.connected(empty_url) as connection:
        assert (
            await connection.fetchval("SELECT count(*) FROM pg_class WHERE relnamespace = 'public'::regnamespace") == 0
        )


async def test_a_database_from_the_future_is_left_alone(
    door: Door, database: asyncpg.Connection, client: httpx2.AsyncClient
) -> None:
    await database.execute("UPDATE alembic_version SET version_num = 'fedcba987654'")
    for verb in ("migration-status", "migrate"):
        assert (await door.do(verb)).code == "database-newer"
    assert await database.fetchval("SELECT version_num FROM alembic_version") == "fedcba987654"


@pytest.mark.parametrize(
    "line", [["show-user", "ada@example.com"], ["create-user", "ada@example.com", "--no-password"]]
)
async def test_commands_on_an_empty_database_say_migrate(apictl: Apictl, empty_url: str, line: list[str]) -> None:
    ended = await apictl(*line, environment=bare_environment(APICTL_DATABASE_URL=empty_url))
    assert ended.code == 11
    assert "hint: run: apictl migrate" in ended.err
