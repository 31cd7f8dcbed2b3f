"""Runs that meet something: what is stored, others at work, another run, the end of the process."""

import asyncio
import json
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from api.core.errors import ApictlError
from api.migrations import runner
from api.migrations.refusals import MigrationBlocked
from api.migrations.revisions import chain, head
from api.migrations.schemas import MigrationUpgrade
from tests.migrations.conftest import Operator, Source
from tests.project.code import ROOT
from tests.project.test_migrations import SCHEMA
from tests.support import postgres
from tests.support.cases import THOROUGH
from tests.support.postgres import somebody_waits
from tests.support.processes import Apictl, bare_environment

CONCURRENTLY = """with op.get_context().autocommit_block():
        op.drop_index("ix_users_x", table_name="users", if_exists=True, postgresql_concurrently=True)
        op.create_index("ix_users_x", "users", ["full_name"], postgresql_concurrently=True)"""

SLOWLY = """with op.get_context().autocommit_block():
        op.execute('SELECT pg_sleep(60)')"""
CONCURRENTLY_BACK = """with op.get_context().autocommit_block():
        op.drop_index("ix_users_x", table_name="users", if_exists=True, postgresql_concurrently=True)"""


async def revision(database: asyncpg.Connection) -> str:
    found: str = await database.fetchval("SELECT version_num FROM alembic_version")
    return found


async def runs(database: asyncpg.Connection) -> list[dict[str, Any]]:
    """Return what the audit log has of this test's own runs, the first one first."""
    rows = await database.fetch(
        "SELECT detail FROM audit_entries WHERE target = 'schema' AND actor = 'operator:tests' AND at > "
        "(SELECT max(applied_at) FROM schema_migrations WHERE revision = $1) ORDER BY at",
        [one.id for one in chain() if not one.id.startswith("test")][-1],
    )
    return [json.loads(row["detail"]) for row in rows]


@pytest.mark.parametrize(
    ("up", "code", "cause"),
    [
        ('op.execute("SELECT 1 /   0")', "migration-failed", "division by zero; in: SELECT 1 / 0"),
        (
            'op.add_column("users", sa.Column("x", sa.Text(), nullable=False))',
            "migration-failed",
            'column "x" of relation "users" contains null values; in: ALTER TABLE users ADD COLUMN x TEXT NOT NULL',
        ),
        ('op.execute("SELECT nothing FROM nowhere")', "migration-failed", 'relation "nowhere" does not exist'),
        ("raise RuntimeError('tired')", "migration-failed", "RuntimeError: tired"),
        ("op.no_such_thing()", "migration-failed", "no_such_thing"),
        (
            "op.execute(\"DO $$ BEGIN RAISE EXCEPTION 'no space left' USING ERRCODE = '53100'; END $$\")",
            "database-unreachable",
            "no space left; in: DO",
        ),
        (
            "op.execute(\"DO $$ BEGIN RAISE EXCEPTION 'no right' USING ERRCODE = '42501'; END $$\")",
            "bad-settings",
            "no right; in: DO",
        ),
    ],
)
async def test_a_failure_names_the_migration_and_the_statement_and_keeps_nothing(
    operator: Operator, source: Source, database: asyncpg.Connection, superuser: Any, up: str, code: str, cause: str
) -> None:
    before = head()
    source.add("test1", 'op.execute("CREATE TABLE half (id int)")')
    source.add("test2", up)
    with pytest.raises(ApictlError) as failed:
        await operator.migrate()
    assert failed.value.code == code
    assert "Migration test2 (test2) failed" in failed.value.detail
    assert cause in (failed.value.cause or "")
    assert failed.value.hint
    assert await revision(database) == before
    assert await database.fetchval("SELECT to_regclass('half')") is None
    (run,) = await runs(database)
    assert (run["outcome"], run["from"], run["to"]) == ("failed", before, "test2")
    assert (run["error"], cause in run["cause"]) == (failed.value.detail, True)
    # What is mended goes on.
    source.remove("test2")
    assert [one.id for one in (await operator.migrate()).applied] == ["test1"]


async def test_what_leaves_its_transaction_is_applied_in_its_place_and_once(
    operator: Operator, source: Source, database: asyncpg.Connection
) -> None:
    source.add("test1", 'op.execute("CREATE TABLE before (id int)")')
    source.add("test2", CONCURRENTLY, CONCURRENTLY_BACK)
    source.add("test3", 'op.execute("CREATE TABLE after (id int)")')
    assert [one.id for one in (await operator.migrate(dry_run=True)).applied] == ["test1", "test2", "test3"]
    assert operator.said[0] == "would apply test1 test1"
    assert [line.partition(" (not tried: ")[0] for line in operator.said[1:]] == [
        "would apply test2 test2",
        "would apply test3 test3",
    ]
    # A build that was cut off leaves an index that is good for nothing.
    await database.execute("CREATE INDEX ix_users_x ON users (email)")
    ended = await asyncio.gather(*(operator.migrate() for _ in range(4)))
    assert sorted(one.id for run in ended for one in run.applied) == ["test1", "test2", "test3"]
    assert await database.fetchval("SELECT pg_get_indexdef('ix_users_x'::regclass)") == (
        "CREATE INDEX ix_users_x ON public.users USING btree (full_name)"
    )
    assert await database.fetchval("SELECT indisvalid FROM pg_index WHERE indexrelid = 'ix_users_x'::regclass")
    assert [(run["from"], run["to"]) for run in await runs(database)][1:] == [("test1", "test2"), ("test2", "test3")]
    history = await operator.service.migration_history()
    assert [(one.id, one.actor) for one in history][:3] == [(f"test{n}", "operator:tests") for n in (3, 2, 1)]
    # And back, the same way.
    plan = await operator.service.rollback_plan("test1")
    await operator.service.rollback(plan, MigrationUpgrade(), dry_run=True)
    assert await revision(database) == "test3"
    only = await operator.service.rollback_plan("test2")
    await operator.service.rollback(only, MigrationUpgrade())
    plan = await operator.service.rollback_plan("test1")
    await operator.service.rollback(plan, MigrationUpgrade(), dry_run=True, say=operator.said.append)
    assert (await revision(database), "would take back test2 test2 (not" in operator.said[-1]) == ("test2", True)
    assert await database.fetchval("SELECT to_regclass('ix_users_x')") is not None
    assert [step.id for step in (await operator.service.rollback(plan, MigrationUpgrade())).undone] == ["test2"]
    assert await database.fetchval("SELECT to_regclass('ix_users_x')") is None
    assert await revision(database) == "test1"


async def test_whoever_waits_for_a_lock_lets_others_pass(
    operator: Operator, source: Source, database: asyncpg.Connection, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runner, "PATIENCE", 1.5)
    source.add("test0", 'op.execute("CREATE TABLE other (id int)")')
    source.add("test1", 'op.add_column("users", sa.Column("x", sa.Text()))', 'op.drop_column("users", "x")')
    async with postgres.connected(database_url) as reader:
        await reader.execute("BEGIN; SELECT count(*) FROM users")
        running = asyncio.create_task(operator.migrate(lock_timeout=0.3))
        await somebody_waits(database)
        began = time.monotonic()
        # It would wait behind the ALTER, which waits behind the reader.
        await database.fetch("SELECT count(*) FROM users")
        assert time.monotonic() - began < 2
        with pytest.raises(MigrationBlocked) as blocked:
            await running
        pid = reader.get_server_pid()
        assert "test1" in blocked.value.detail
        assert f"in: ALTER TABLE users ADD COLUMN x TEXT; process {pid} " in (blocked.value.cause or "")
        assert f"pg_terminate_backend({pid})" in (blocked.value.hint or "")
        assert any("waits for a lock" in line for line in operator.said)
        running = asyncio.create_task(operator.migrate(lock_timeout=0.3))
        await somebody_waits(database)
        await reader.execute("ROLLBACK")
        assert [one.id for one in (await running).applied] == ["test0", "test1"]
        await reader.execute("BEGIN; SELECT count(*) FROM users")
        with pytest.raises(MigrationBlocked) as blocked:
            await operator.service.rollback(
                await operator.service.rollback_plan("test0"), MigrationUpgrade(lock_timeout=0.1)
            )
        assert f"process {pid} " in (blocked.value.cause or "")
    assert [run["outcome"] for run in await runs(database)] == ["failed", "succeeded", "failed"]


async def test_a_statement_may_take_as_long_as_it_may(
    operator: Operator, source: Source, database: asyncpg.Connection
) -> None:
    source.add("test1", 'op.execute("SELECT pg_sleep(5)")')
    with pytest.raises(ApictlError) as late:
        await operator.migrate(statement_timeout=0.05)
    assert (late.value.code, "test1" in late.value.detail) == ("database-timeout", True)
    assert "--statement-timeout" in (late.value.hint or "")
    # What is only tried is no run, however it ends.
    with pytest.raises(ApictlError):
        await operator.migrate(statement_timeout=0.05, dry_run=True)
    assert len(await runs(database)) == 1
    assert await database.fetchval("SELECT current_setting('statement_timeout')") == "0"


async def test_sql_says_what_is_run_and_notes_only_what_was_done(
    operator: Operator, source: Source, database: asyncpg.Connection
) -> None:
    source.add("test1", """op.execute("CREATE TABLE x (y text DEFAULT '100%')")""")
    written = await operator.service.sql(MigrationUpgrade(lock_timeout=0.25))
    assert written.startswith("BEGIN;\nSET LOCAL lock_timeout = '250ms';\nSET LOCAL statement_timeout = '0ms';\n")
    note = written[written.index("INSERT INTO schema_migrations") :]
    # As psql does, which runs past an error.
    await database.execute(note)
    assert await database.fetchval("SELECT count(*) FROM schema_migrations WHERE revision = 'test1'") == 0
    await database.execute(written)
    assert await database.fetchval("SELECT door FROM schema_migrations WHERE revision = 'test1'") == "sql"
    await database.execute("INSERT INTO x DEFAULT VALUES")
    assert await database.fetchval("SELECT y FROM x") == "100%"


async def test_alembic_itself_keeps_out_of_the_way(empty_url: str) -> None:
    line = [sys.executable, "-m", "alembic", "upgrade", "head"]
    environment = bare_environment(APICTL_DATABASE_URL=empty_url)
    async with postgres.connected(empty_url) as connection:
        await connection.execute("BEGIN; SELECT pg_advisory_xact_lock(hashtextextended('apictl:migrations', 0))")
        ended = await asyncio.to_thread(
            subprocess.run, line, cwd=ROOT, env=environment, capture_output=True, text=True, check=False
        )
        assert (ended.returncode, "Another migration is running" in ended.stderr) == (1, True), ended.stderr
        assert await connection.fetchval("SELECT to_regclass('alembic_version')") is None


@pytest.mark.parametrize("up", ["op.execute('SELECT pg_sleep(60)')", SLOWLY])
async def test_who_interrupts_it_is_written_down(
    operator: Operator, source: Source, database: asyncpg.Connection, up: str
) -> None:
    source.add("test1", up)
    before = await revision(database)
    running = asyncio.create_task(operator.migrate())
    asleep = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event = 'PgSleep'"
    async with asyncio.timeout(20):
        while not await database.fetchval(asleep):
            await asyncio.sleep(0.02)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert await revision(database) == before
    assert [(run["outcome"], run["error"]) for run in await runs(database)] == [("failed", "It was interrupted")]


@pytest.mark.skipif(not THOROUGH, reason="fifty rounds: CI's second run has them; one is in test_migrations")
async def test_of_ten_at_once_one_applies(apictl: Apictl, server_url: str) -> None:
    for _ in range(50):
        async with postgres.database(server_url, copy_of=None) as url:
            environment = bare_environment(APICTL_DATABASE_URL=url)
            ended = await asyncio.gather(*(apictl("migrate", "-o", "json", environment=environment) for _ in range(10)))
            assert [one.code for one in ended] == [0] * 10, [one.err for one in ended]
            assert sorted(one.json()["changed"] for one in ended) == [False] * 9 + [True]
            assert {one.json()["current"] for one in ended} == {head()}


async def test_whoever_is_killed_leaves_nothing_half_done(apictl: Apictl, server_url: str, template: str) -> None:
    """At any moment; the schema is then that of a run that nobody disturbed."""
    chance = random.Random(4)  # noqa: S311 - moments, not secrets
    async with postgres.connected(postgres.named(server_url, template)) as connection:
        expected = {tuple(row) for row in await connection.fetch(SCHEMA)}
    cut_short = 0
    for _ in range(20 if THOROUGH else 2):
        async with postgres.database(server_url, copy_of=None) as url:
            environment = bare_environment(APICTL_DATABASE_URL=url)
            with Path("/dev/null").open("r+b") as nothing:  # noqa: ASYNC230 - it opens at once
                files = (nothing.fileno(),) * 3
                process = apictl.start(["migrate"], files, env=environment, cwd=None, terminal=False)
                await asyncio.sleep(chance.uniform(0.02, 0.35))
                process.send_signal(signal.SIGKILL)
                await asyncio.to_thread(process.wait, 20)
            async with postgres.connected(url) as connection:
                whole = await connection.fetchval("SELECT to_regclass('alembic_version')") is not None
                cut_short += not whole
                assert not whole or await revision(connection) == head()
                assert await connection.fetchval("SELECT to_regclass('users')") is not None or not whole
            ended = await apictl("migrate", environment=environment)
            assert ended.code == 0, ended.err
            async with postgres.connected(url) as connection:
                assert {tuple(row) for row in await connection.fetch(SCHEMA)} == expected
    assert cut_short or not THOROUGH
