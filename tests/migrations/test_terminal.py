"""What an operator and a pipeline see: exit codes, plans, SQL, waiting, and going back."""

import asyncio
import json
import os
import subprocess
import sys
from tempfile import TemporaryFile
from typing import Any
from urllib.parse import urlsplit

import asyncpg
import pytest
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy.ext.asyncio import create_async_engine

from api.migrations.revisions import chain, head
from tests.conftest import SUPERUSER
from tests.migrations.test_runs import revision
from tests.project.code import ROOT
from tests.project.test_migrations import SCHEMA, configuration
from tests.support import postgres
from tests.support.processes import Apictl, bare_environment
from tests.support.terminal import terminal

MIDDLE = chain()[4].id


async def test_check_says_by_its_exit_code(apictl: Apictl, empty_url: str) -> None:
    environment = bare_environment(APICTL_DATABASE_URL=empty_url)
    codes = [(await apictl("migrate", "--check", "-o", "json", environment=environment)).code]
    assert (await apictl("migrate", "--to", MIDDLE[:6], environment=environment)).code == 0
    checked = await apictl("migrate", "--check", "-o", "json", environment=environment)
    assert (checked.json()["current"], checked.json()["pending"][0]["id"]) == (MIDDLE, chain()[5].id)
    codes.append(checked.code)
    assert (await apictl("migrate", environment=environment)).code == 0
    codes.append((await apictl("migrate", "--check", environment=environment)).code)
    async with postgres.connected(empty_url) as connection:
        await connection.execute("UPDATE alembic_version SET version_num = 'unknown'")
    codes.append((await apictl("migrate", "--check", environment=environment)).code)
    assert codes == [10, 10, 0, 11]


async def test_a_plan_and_its_sql_do_nothing_and_are_what_is_done(
    apictl: Apictl, empty_url: str, database_url: str
) -> None:
    environment = bare_environment(APICTL_DATABASE_URL=empty_url)
    assert (await apictl("migrate", "--to", MIDDLE, environment=environment)).code == 0
    answer = await apictl("migrate", "--plan", "-o", "json", environment=environment)
    assert (answer.code, "add-constraint: nobody can write to second_factors" in answer.err) == (10, True)
    planned = answer.json()
    assert [step["id"] for step in planned["steps"]] == [one.id for one in chain()[5:]]
    rules = {finding["rule"] for step in planned["steps"] for finding in step["findings"]}
    assert {"add-constraint", "add-unique"} <= rules
    written = await apictl("migrate", "--sql", environment=environment)
    async with postgres.connected(empty_url) as connection, postgres.connected(database_url) as whole:
        assert await revision(connection) == MIDDLE
        await connection.execute(written.out)
        assert await revision(connection) == head()
        found = [{tuple(row) for row in await one.fetch(SCHEMA)} for one in (connection, whole)]
        noted = await connection.fetch("SELECT revision, door FROM schema_migrations ORDER BY applied_at")
    assert found[0] == found[1]
    assert {tuple(row) for row in noted} == {(one.id, "sql") for one in chain()[5:]}
    assert (await apictl("migrate", "--sql", environment=environment)).out == ""
    assert (await apictl("migrate", "--plan", environment=environment)).code == 0
    both = await apictl("migrate", "--sql", "--plan", environment=environment)
    assert (both.code, "ask one at a time" in both.err) == (2, True)


@pytest.mark.parametrize(
    ("line", "code", "said"),
    [
        (["migrate", "--to", "nowhere"], 3, "apictl migration-history"),
        (["migrate", "--to", MIDDLE], 5, f"apictl rollback --to {MIDDLE}"),
        (["migrate", "--lock-timeout", "0"], 6, "lock_timeout"),
        (["migrate", "--check", "--to", MIDDLE], 5, "apictl rollback"),
        (["rollback", "--yes", "--fields", "nothing"], 2, "the fields are"),
        (["stamp", "base", "--yes", "--fields", "nothing"], 2, "the fields are"),
        (["rollback", "--to", "nowhere", "--yes"], 3, "apictl migration-history"),
        (["rollback", "--to", str(head()), "--yes"], 5, "apictl migrate"),
        (["rollback"], 2, "--yes"),
        (["stamp", "nowhere", "--yes"], 3, "apictl migration-history"),
        (["stamp", "", "--yes"], 3, "apictl migration-history"),
        (["make-migration", 'a""" + b'], 6, "text"),
        (["make-migration", ""], 6, "text"),
    ],
)
async def test_what_cannot_be_done_is_said(
    apictl: Apictl, environment: dict[str, str], database: asyncpg.Connection, line: list[str], code: int, said: str
) -> None:
    ended = await apictl(*line, environment=environment)
    assert (ended.code, said in ended.err) == (code, True), ended.err
    assert await revision(database) == head()


async def test_it_waits_for_a_database_that_starts(apictl: Apictl, empty_url: str) -> None:
    """A container's database often starts after the container that migrates it."""
    parts = urlsplit(empty_url)
    listening = await asyncio.start_server(lambda *_: None, "127.0.0.1", 0)
    port = listening.sockets[0].getsockname()[1]
    listening.close()
    await listening.wait_closed()
    there = parts._replace(netloc=f"{parts.username}:{parts.password}@127.0.0.1:{port}").geturl()
    environment = bare_environment(APICTL_DATABASE_URL=there)
    refused = await apictl("migrate", "--wait-for-database", "0.6", environment=environment)
    assert (refused.code, "Waiting for the database" in refused.err) == (7, True), refused.err

    line = ["migrate", "--wait-for-database", "30"]
    with TemporaryFile("w+") as said:
        files = (said.fileno(),) * 3
        process = apictl.start(line, files, env=environment, cwd=None, terminal=False)
        async with asyncio.timeout(30):
            while not os.stat(said.fileno()).st_size:  # noqa: PTH116 - it is another process that writes
                await asyncio.sleep(0.02)
        async with postgres.over_tcp(empty_url, port):
            code = await asyncio.to_thread(process.wait, 30)
        said.seek(0)
        assert (code, said.read().startswith("Waiting for the database")) == (0, True)
    # A password does not get right by waiting.
    wrong = parts._replace(netloc=parts.netloc.replace(f":{parts.password}@", ":wrong@")).geturl()
    refused = await apictl(
        "migrate", "--wait-for-database", "30", environment=bare_environment(APICTL_DATABASE_URL=wrong)
    )
    assert refused.code == 12, refused.err


async def test_going_back_says_what_it_costs(
    apictl: Apictl, environment: dict[str, str], database: asyncpg.Connection, superuser: Any
) -> None:
    made = await apictl("create-service-account", "deploy", environment=environment)
    assert made.code == 0
    await database.execute(
        "INSERT INTO pending_logins (digest, user_id, verified_hash, expires_at) "
        "SELECT '', id, '', now() FROM users LIMIT 1"
    )
    with terminal("rollback", "--to", chain()[1].id, environment=environment, start=apictl.start) as seen:
        seen.wait_for("to go on: ")
        assert "It would cost the column users.kind: 2 rows" in seen.screen
        # Which has another name by the time that it goes.
        assert "It would cost the table pending_logins: 1 row\n" in seen.screen
        assert "It would cost the column users.name: 1 row\n" in seen.screen
        assert "It would cost rows of users WHERE kind = 'service': 1 row" in seen.screen
        assert f"This takes back {chain()[2].id} service accounts" in seen.screen
        seen.type("yes\n")
        assert seen.end() == 8
    assert await revision(database) == head()
    tried = await apictl("rollback", "--to", chain()[1].id, "--dry-run", "-o", "json", environment=environment)
    assert (tried.code, tried.json()["dry_run"]) == (0, True)
    assert await revision(database) == head()
    with terminal("rollback", "--to", chain()[1].id, environment=environment, start=apictl.start) as seen:
        seen.wait_for("to go on: ")
        seen.type(chain()[1].id + "\n")
        assert seen.end() == 0
    assert await revision(database) == chain()[1].id
    entry = await database.fetchrow("SELECT detail FROM audit_entries WHERE action = 'migration.rollback'")
    assert entry is not None
    assert json.loads(entry["detail"])["to"] == chain()[1].id
    assert (await apictl("migrate", environment=environment)).code == 0
    assert (await apictl("show-user", SUPERUSER, environment=environment)).code == 0


async def test_back_to_nothing_and_forth_again(apictl: Apictl, environment: dict[str, str]) -> None:
    back = await apictl("rollback", "--to", "base", "--yes", "-o", "json", environment=environment)
    assert (back.code, back.json()["current"], len(back.json()["undone"])) == (0, None, len(chain())), back.err
    assert (await apictl("rollback", "--yes", environment=environment)).code == 5
    assert (await apictl("migrate", environment=environment)).code == 0
    history = await apictl("migration-history", "-o", "json", environment=environment)
    assert {item["is_applied"] for item in history.json()["items"]} == {True}
    assert all(item["actor"].startswith("operator:") and item["applied_at"] for item in history.json()["items"])


async def test_a_stamp_says_where_a_database_is(
    apictl: Apictl, environment: dict[str, str], database: asyncpg.Connection
) -> None:
    await database.execute("DELETE FROM alembic_version")
    lost = await apictl("migrate", environment=environment)
    assert (lost.code, "apictl stamp" in lost.err) == (12, True)
    await database.execute("INSERT INTO alembic_version VALUES ($1), ($2)", chain()[0].id, chain()[1].id)
    two = await apictl("migrate", environment=environment)
    assert (two.code, "apictl stamp" in two.err) == (12, True)
    stamped = await apictl("stamp", "head", "--yes", "-o", "json", environment=environment)
    assert (stamped.code, stamped.json()["current"], len(stamped.json()["before"])) == (0, head(), 2)
    assert (await apictl("migrate", "--check", environment=environment)).code == 0
    again = await apictl("stamp", "head", "--yes", "-o", "json", environment=environment)
    assert again.json()["changed"] is False


@pytest.mark.parametrize(
    ("prepare", "code", "said"),
    [
        ("CREATE TABLE django_migrations (id int)", 12, "there are django_migrations"),
        ("CREATE TABLE alembic_version (version_num text); INSERT INTO alembic_version VALUES ('x')", 12, "tables of"),
        ("ALTER DATABASE {database} SET default_transaction_read_only = on", 7, "read-only"),
        ("CREATE EXTENSION IF NOT EXISTS plpgsql", 0, ""),
    ],
)
async def test_a_database_that_is_no_place_for_us(
    apictl: Apictl, empty_url: str, prepare: str, code: int, said: str
) -> None:
    async with postgres.connected(empty_url) as connection:
        name = await connection.fetchval("SELECT current_database()")
        await connection.execute(prepare.replace("{database}", name))
        before = await connection.fetch("SELECT relname FROM pg_class WHERE relnamespace = 'public'::regnamespace")
    ended = await apictl("migrate", environment=bare_environment(APICTL_DATABASE_URL=empty_url))
    assert (ended.code, said in ended.err, "hint: " in ended.err or code == 0) == (code, True, True), ended.err
    async with postgres.connected(empty_url) as connection:
        after = await connection.fetch("SELECT relname FROM pg_class WHERE relnamespace = 'public'::regnamespace")
    assert (before == after) is (code != 0)


async def test_a_role_without_the_right_is_told_so(apictl: Apictl, empty_url: str) -> None:
    async with postgres.connected(empty_url) as connection:
        if await connection.fetchval("SELECT rolsuper FROM pg_roles WHERE rolname = current_user"):
            pytest.skip("a PostgreSQL superuser may do everything")
        await connection.execute("REVOKE CREATE ON SCHEMA public FROM pg_database_owner, PUBLIC")
    ended = await apictl("migrate", environment=bare_environment(APICTL_DATABASE_URL=empty_url))
    assert ended.code == 12, ended.err
    assert "permission denied for schema public" in ended.err
    assert "hint: grant" in ended.err


async def test_nobody_stamps_what_has_no_tables_of_ours(apictl: Apictl, empty_url: str) -> None:
    environment = bare_environment(APICTL_DATABASE_URL=empty_url)
    ended = await apictl("stamp", "head", "--yes", environment=environment)
    assert (ended.code, "APICTL_DATABASE_URL" in ended.err) == (5, True)
    assert (await apictl("stamp", "base", "--yes", environment=environment)).code == 5
    assert (await apictl("migrate", "--check", environment=environment)).code == 10


LOOK = """
import sys
sys.modules["alembic"] = None
from cli.main import main
main(["migrate", "--check", "-o", "jsonl"])
main(["migration-status", "-o", "jsonl"])
"""


async def test_a_look_does_without_alembic_and_says_what_it_says(empty_url: str, apictl: Apictl) -> None:
    environment = bare_environment(APICTL_DATABASE_URL=empty_url)
    for target in (None, MIDDLE):
        if target is not None:
            assert (await apictl("migrate", "--to", target, environment=environment)).code == 0
        engine = create_async_engine("postgresql+asyncpg://", async_creator=lambda: asyncpg.connect(empty_url))
        async with engine.connect() as connection:
            theirs = await connection.run_sync(lambda sync: MigrationContext.configure(sync).get_current_heads())
        await engine.dispose()
        scripts = ScriptDirectory.from_config(configuration())
        line = [sys.executable, "-c", LOOK]
        seen = await asyncio.to_thread(
            subprocess.run, line, cwd=ROOT, env=environment, capture_output=True, text=True, check=True
        )
        looks = [json.loads(line) for line in seen.stdout.splitlines()]
        assert len(looks) == 2
        for found in looks:
            assert ([found["current"]] if found["current"] else []) == list(theirs)
            assert [found["head"]] == scripts.get_heads()
            lacking = [script.revision for script in scripts.iterate_revisions("head", found["current"])]
            assert [item["id"] for item in found["pending"]] == list(reversed(lacking))
