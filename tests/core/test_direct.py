"""Statements without SQLAlchemy: who shares one, and what they are told."""

import asyncio
import socket
from uuid import UUID, uuid4

import asyncpg
import pytest
from sqlalchemy import ARRAY, Uuid, any_, bindparam, func, select

from api.config import Settings
from api.core import direct
from api.core.direct import Direct, Statement
from api.core.errors import DatabaseTimeout, DatabaseUnreachable
from api.core.runtime import Runtime
from api.users.models import User
from tests.conftest import SUPERUSER, SUPERUSER_ID
from tests.support.postgres import somebody_waits

USERS = Statement(
    select(User.id.label("key"), User.email, func.clock_timestamp().label("at")).where(
        User.id == any_(bindparam("keys", type_=ARRAY(Uuid)))
    )
)
SLEEPING = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event = 'PgSleep'"
ASLEEP = Statement(select(func.pg_sleep(60)))


@pytest.fixture
async def asked(runtime: Runtime, superuser: User, monkeypatch: pytest.MonkeyPatch) -> list[list[UUID]]:
    """The keys of each statement that was sent."""
    seen: list[list[UUID]] = []
    fetch = Direct.fetch

    async def watched(self: Direct, statement: Statement, **values: list[UUID]) -> list[asyncpg.Record]:
        seen.append(values["keys"])
        return await fetch(self, statement, **values)

    monkeypatch.setattr(Direct, "fetch", watched)
    return seen


async def test_who_asks_in_the_same_moment_shares_a_statement(runtime: Runtime, asked: list[list[UUID]]) -> None:
    nobody = uuid4()
    keys = [SUPERUSER_ID, nobody, SUPERUSER_ID]
    found = await asyncio.gather(*(runtime.direct.look_up(USERS, key) for key in keys))
    assert [row and row["email"] for row in found] == [SUPERUSER, None, SUPERUSER]
    # Padded, as PostgreSQL keeps its plan for so many.
    assert asked == [[SUPERUSER_ID, *[nobody] * (direct.ELEMENTS - 1)]]


async def test_nobody_is_answered_by_what_began_before(
    runtime: Runtime, asked: list[list[UUID]], database: asyncpg.Connection
) -> None:
    """A lookup that hangs on a lock is of the past: whoever asks after it does not get its answer."""
    await database.execute("BEGIN; LOCK users")
    first = asyncio.create_task(runtime.direct.look_up(USERS, SUPERUSER_ID))
    await somebody_waits(database)
    later = [asyncio.create_task(runtime.direct.look_up(USERS, SUPERUSER_ID)) for _ in range(5)]
    await asyncio.sleep(0)
    await database.execute("COMMIT")
    rows = [await task for task in (first, *later)]
    assert len({row["at"] for row in rows if row}) == len(asked) == 2
    # All places taken: those who come meanwhile share the one after.
    await database.execute("BEGIN; LOCK users")
    waiting = []
    for _ in range(direct.AT_ONCE + 3):
        waiting.append(asyncio.create_task(runtime.direct.look_up(USERS, SUPERUSER_ID)))
        for _ in range(5):
            await asyncio.sleep(0)
    asked.clear()
    await database.execute("COMMIT")
    await asyncio.gather(*waiting)
    assert len(asked) == 1


async def test_who_asks_the_same_in_the_same_moment_shares_its_rows(
    runtime: Runtime, asked: list[list[UUID]], database: asyncpg.Connection
) -> None:
    async def emails(*keys: UUID) -> list[str]:
        return [row["email"] for row in await runtime.direct.fetch_shared(USERS, keys=list(keys))]

    found = await asyncio.gather(emails(SUPERUSER_ID), emails(uuid4()), emails(SUPERUSER_ID))
    assert [*found] == [[SUPERUSER], [], [SUPERUSER]]
    assert len(asked) == 2
    # Nothing is kept: who comes later is told what is so by then, and nothing of it stays in memory.
    await database.execute("UPDATE users SET email = 'other@example.com'")
    assert await emails(SUPERUSER_ID) == ["other@example.com"]
    for _ in range(3):
        await asyncio.sleep(0)
    assert runtime.direct._lookups == {}


async def test_who_is_cancelled_takes_nothing_from_others(
    runtime: Runtime, asked: list[list[UUID]], database: asyncpg.Connection
) -> None:
    await database.execute("BEGIN; LOCK users")
    one, other = (asyncio.create_task(runtime.direct.look_up(USERS, SUPERUSER_ID)) for _ in range(2))
    await somebody_waits(database)
    one.cancel()
    await database.execute("COMMIT")
    row = await other
    assert (row is not None, one.cancelled(), len(asked)) == (True, True, 1)


async def test_a_failure_is_everybody_s_and_the_next_one_goes_well(
    runtime: Runtime, asked: list[list[UUID]], database: asyncpg.Connection
) -> None:
    await runtime.direct.look_up(USERS, SUPERUSER_ID)
    await database.execute(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
        "WHERE pid <> pg_backend_pid() AND datname = current_database()"
    )
    found = await asyncio.gather(
        *(runtime.direct.look_up(USERS, SUPERUSER_ID) for _ in range(3)), return_exceptions=True
    )
    assert {type(one) for one in found} <= {DatabaseUnreachable, asyncpg.Record}
    assert len({type(one) for one in found}) == 1
    row = await runtime.direct.look_up(USERS, SUPERUSER_ID)
    assert row is not None


async def test_when_all_connections_are_taken_one_waits_no_longer_than_one_may(
    runtime: Runtime, database: asyncpg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runtime.direct, "_timeout", 0.05)
    taken = [asyncio.create_task(runtime.direct.fetch(ASLEEP)) for _ in range(direct.CONNECTIONS)]
    try:
        async with asyncio.timeout(20):
            while await database.fetchval(SLEEPING) < direct.CONNECTIONS:
                await asyncio.sleep(0.01)
        with pytest.raises(DatabaseUnreachable) as refused:
            await runtime.direct.fetch(USERS, keys=[])
        assert "APICTL_POOL_TIMEOUT" in str(refused.value.cause)
    finally:
        for task in taken:
            task.cancel()
        await asyncio.gather(*taken, return_exceptions=True)
    assert await runtime.direct.fetch(USERS, keys=[]) == []


async def test_nobody_waits_for_a_statement_that_was_cut_off(settings: Settings, superuser: User) -> None:
    async with Runtime.open(settings.model_copy(update={"statement_timeout": 0.2})) as runtime:
        assert await runtime.direct.fetch(USERS, keys=[]) == []
        (connection,) = runtime.direct._idle
        with pytest.raises(DatabaseTimeout) as refused:
            await runtime.direct.fetch(ASLEEP)
        assert "APICTL_STATEMENT_TIMEOUT" in str(refused.value.cause)
        assert connection not in runtime.direct._idle
        assert await runtime.direct.fetch(USERS, keys=[]) == []
    assert connection.is_closed()


async def test_a_database_that_lets_nobody_in_is_told_from_one_that_does_not_answer(settings: Settings) -> None:
    # The system takes the connection, and nobody says anything on it.
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"postgresql://ada@127.0.0.1:{silent.getsockname()[1]}/none?sslmode=disable"
        async with Runtime.open(settings.model_copy(update={"connect_timeout": 0.2}), url=url) as runtime:
            with pytest.raises(DatabaseTimeout) as refused:
                await runtime.direct.fetch(USERS, keys=[])
            assert refused.value.cause == "no connection within 0.2 s (APICTL_CONNECT_TIMEOUT)"
            with pytest.raises(DatabaseTimeout, match="too long") as refused:
                async with runtime.transaction() as session:
                    await session.connection()
            assert "APICTL_CONNECT_TIMEOUT" in str(refused.value.cause)


def test_a_parameter_that_is_missing_is_no_null() -> None:
    with pytest.raises(KeyError):
        USERS.arguments({"key": []})
