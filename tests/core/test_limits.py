"""What happens at the limits of a process: the pool, the hashing queue, the lock of migrations, a broken folder."""

import asyncio
from pathlib import Path

import asyncpg
import httpx2
import pytest
from asgi_lifespan import LifespanManager

from api.config import Settings
from api.core import hashes
from api.core import passwords as module
from api.core.actor import Actor
from api.core.errors import Busy, DatabaseUnreachable
from api.core.passwords import Passwords, WeakPassword
from api.core.runtime import Runtime
from api.main import create_app
from api.migrations import revisions, runner
from api.migrations.refusals import MigrationRunning
from api.migrations.schemas import MigrationUpgrade
from api.migrations.service import MigrationService
from api.users.models import User
from tests.conftest import SUPERUSER, log_in


async def test_a_pool_without_a_free_connection_is_a_503(settings: Settings) -> None:
    small = settings.model_copy(update={"pool_size": 1, "pool_timeout": 0.2})
    async with Runtime.open(small) as runtime, runtime.transaction() as session:
        await session.connection()
        with pytest.raises(DatabaseUnreachable, match="in use") as full:
            async with runtime.transaction(readonly=True) as other:
                await other.connection()
    assert full.value.kind.status == 503


async def test_a_connection_that_was_cut_in_the_middle_is_a_503(runtime: Runtime, database: asyncpg.Connection) -> None:
    with pytest.raises(DatabaseUnreachable):  # noqa: PT012 - the failure is the block's, at its end or before
        async with runtime.transaction() as session:
            await session.connection()
            await database.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                "WHERE datname = current_database() AND pid <> pg_backend_pid()"
            )
            connection = await session.connection()
            await connection.exec_driver_sql("SELECT 1")


async def test_what_is_not_the_database_s_stays_what_it_is(runtime: Runtime) -> None:
    with pytest.raises(FileNotFoundError):
        async with runtime.transaction():
            raise FileNotFoundError("a file of a feature's")


async def test_a_wait_for_a_turn_to_hash_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "QUEUE_SECONDS", 0.05)
    passwords = Passwords(min_length=15, threads=1)
    async with passwords._turn():
        with pytest.raises(Busy):
            await passwords.hash("correct horse battery staple")
    await passwords.hash("correct horse battery staple")
    with pytest.raises(WeakPassword):
        await passwords.hash("a lone surrogate \ud800 is none")
    passwords.close()


async def test_the_hash_of_nobody_is_one_of_the_live_policy() -> None:
    """Not out of date, and of the same form: whoever is checked against it waits as long as everybody else."""
    assert hashes.CONTEXT.needs_update(hashes.DUMMY_HASH) is False
    real = hashes.CONTEXT.hash("x")
    assert [len(part) for part in hashes.DUMMY_HASH.split("$")] == [len(part) for part in real.split("$")]
    assert hashes.DUMMY_HASH.split("$")[:4] == real.split("$")[:4]
    passwords = Passwords(min_length=15)
    assert not (await passwords.verify("correct horse battery staple", None)).ok
    passwords.close()


async def test_a_migration_that_waits_too_long_says_so(
    runtime: Runtime, database: asyncpg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runner, "PATIENCE", 1)
    await database.execute("UPDATE alembic_version SET version_num = $1", revisions.chain()[-2].id)
    await database.execute("BEGIN; SELECT pg_advisory_xact_lock(hashtextextended('apictl:migrations', 0))")
    service = MigrationService(runtime.transaction, runtime.patient_engine, Actor.operator("tests"))
    with pytest.raises(MigrationRunning):
        await service.upgrade(MigrationUpgrade())


@pytest.mark.parametrize("text", ["", "revision = '2'", "revision = f()\ndown_revision = None", "revision: str = '2'"])
def test_a_broken_migration_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    (tmp_path / "versions").mkdir()
    (tmp_path / "versions" / "broken.py").write_text(text)
    monkeypatch.setattr(revisions, "folder", lambda: tmp_path)
    with pytest.raises(revisions.BrokenMigrations) as broken:
        revisions.chain.__wrapped__()
    assert "broken.py" in (broken.value.cause or "")


def test_two_migrations_after_one_are_no_chain(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "versions").mkdir()
    for number, parent in (("1", None), ("2", "1"), ("3", "1")):
        path = tmp_path / "versions" / f"{number}.py"
        path.write_text(f'"""Step {number}."""\nrevision = "{number}"\ndown_revision = {parent!r}\n')
    monkeypatch.setattr(revisions, "folder", lambda: tmp_path)
    with pytest.raises(revisions.BrokenMigrations):
        revisions.chain.__wrapped__()


async def test_a_user_agent_that_cannot_be_kept_is_left_out(
    client: httpx2.AsyncClient, superuser: User, database: asyncpg.Connection
) -> None:
    client.headers["User-Agent"] = "bad\tagent"
    await log_in(client, SUPERUSER)
    client.headers["User-Agent"] = "x" * 1000
    await log_in(client, SUPERUSER)
    kept = await database.fetch("SELECT user_agent FROM sessions ORDER BY created_at")
    assert [row["user_agent"] for row in kept] == ["", "x" * 300]


async def test_the_first_address_leads_to_the_docs(settings: Settings) -> None:
    app = create_app(settings)
    transport = httpx2.ASGITransport(app=app)
    async with LifespanManager(app), httpx2.AsyncClient(transport=transport, base_url="http://testserver") as client:
        answer = await client.get("/")
        assert answer.headers["Location"] == "/docs"
        assert (await client.get("/docs/oauth2-redirect")).status_code == 200
        answers = await asyncio.gather(*(client.get("/openapi.json") for _ in range(3)))
        assert {len(answer.content) for answer in answers} == {len(answers[0].content)}
