"""Statements about the schema's version, the runs that changed it, and the lock under which it changes."""

from datetime import timedelta
from typing import Any, Final
from uuid import UUID

from sqlalchemy import Row, column, delete, func, select, table, text
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncSession
from sqlalchemy.orm import load_only

from api.audit.models import AuditEntry
from api.core.actor import Actor
from api.core.direct import Statement
from api.core.errors import DatabaseTimeout
from api.migrations.models import AppliedMigration, Server

LOCK: Final = "apictl:migrations"
RUNS: Final = "schema"
# A server that has not been seen for so long is gone, or sees as little of the database.
LIVES: Final = timedelta(seconds=60)
# By the process's own connection for such questions.
REVISIONS: Final = Statement(select(column("version_num")).select_from(table("alembic_version")))


async def exists(executor: AsyncSession | AsyncConnection, *tables: str) -> bool:
    """Tell whether all of these tables are there."""
    # Not to_regclass: while this connection waited for the lock, its catalogue cache may have kept "no such table".
    found = await executor.scalar(
        text("SELECT count(*) FROM pg_class WHERE relname = ANY(:tables) AND pg_table_is_visible(oid)"),
        {"tables": list(tables)},
    )
    return bool(found == len(tables))


async def current(executor: AsyncSession | AsyncConnection) -> list[str]:
    """Return the revisions that the database is at: none when it is empty, more than one when it is broken."""
    if not await exists(executor, "alembic_version"):
        return []
    return list((await executor.execute(text("SELECT version_num FROM alembic_version"))).scalars())


async def foreign_tables(session: AsyncSession) -> list[str]:
    """Return some tables of the schema that ours would be made in, where nobody has migrated; not an extension's."""
    found = await session.execute(
        text(
            "SELECT relname FROM pg_class WHERE relkind IN ('r', 'p', 'f') AND relname <> 'alembic_version' "
            "AND relnamespace = (SELECT oid FROM pg_namespace WHERE nspname = current_schema()) AND NOT EXISTS "
            "(SELECT FROM pg_depend WHERE objid = pg_class.oid AND deptype = 'e') ORDER BY relname LIMIT 4"
        )
    )
    return list(found.scalars())


async def lock(session: AsyncSession) -> bool:
    """Let one run at a time work on the schema, until the transaction ends: such a lock survives a pooler too.

    False if another one does. To wait for the lock inside a statement would be to hold a snapshot meanwhile, for which
    a CREATE INDEX CONCURRENTLY of whoever has the lock waits: both for ever, and PostgreSQL sees no deadlock.
    """
    got = await session.scalar(text("SELECT pg_try_advisory_xact_lock(hashtextextended(:name, 0))"), {"name": LOCK})
    if got:
        # Beside a long migration, the transaction that holds the lock does nothing.
        await limit(session, "idle_in_transaction_session_timeout", None)
    return bool(got)


async def let_snapshot_go(session: AsyncSession) -> None:
    """See nothing of the database any more, and keep the transaction with its locks.

    The last result keeps its snapshot until the next statement, in the protocol that drivers speak; a script's does
    not.
    """
    raw = await (await session.connection()).get_raw_connection()
    await raw.driver_connection.execute("SELECT")  # type: ignore[union-attr]


async def is_running(session: AsyncSession) -> bool:
    """Tell whether somebody holds that lock."""
    held = await session.scalar(
        text(
            "SELECT EXISTS (SELECT FROM pg_locks WHERE locktype = 'advisory' AND granted AND objsubid = 1 "
            "AND database = (SELECT oid FROM pg_database WHERE datname = current_database()) "
            "AND (classid::bigint << 32) | objid::bigint = hashtextextended(:name, 0))"
        ),
        {"name": LOCK},
    )
    return bool(held)


async def limit(session: AsyncSession, setting: str, seconds: float | None) -> None:
    """Bound what the statements of this transaction take, by one of PostgreSQL's settings; None: not at all."""
    value = f"{int((seconds or 0) * 1000)}ms"
    await session.execute(text("SELECT set_config(:setting, :value, true)"), {"setting": setting, "value": value})


async def oldest_other(session: AsyncSession) -> Row[Any] | None:
    """Return who has had a transaction open in this database for longest, besides us."""
    found = await session.execute(
        text(
            "SELECT pid, usename, application_name, extract(epoch FROM clock_timestamp() - xact_start)::int AS seconds "
            "FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid() "
            "AND xact_start IS NOT NULL ORDER BY xact_start LIMIT 1"
        )
    )
    return found.one_or_none()


async def applied(session: AsyncSession) -> dict[str, AppliedMigration]:
    """Return what was noted of the migrations that the database has."""
    if not await exists(session, AppliedMigration.__tablename__):
        return {}
    return {row.revision: row for row in await session.scalars(select(AppliedMigration))}


async def runs(session: AsyncSession, *, count: int) -> list[AuditEntry]:
    """Return the last runs that changed the schema, or tried to; the newest first."""
    if not await exists(session, AuditEntry.__tablename__):
        return []
    latest = select(AuditEntry).where(AuditEntry.target == RUNS).order_by(AuditEntry.at.desc(), AuditEntry.id.desc())
    # What a database has that is behind, too.
    shown = (AuditEntry.at, AuditEntry.actor, AuditEntry.door, AuditEntry.action, AuditEntry.detail)
    return list(await session.scalars(latest.options(load_only(*shown)).limit(count)))


async def note_run(session: AsyncSession, actor: Actor, *, action: str, detail: dict[str, Any]) -> None:
    """Insert what a run did into the audit log, also into that of a database that is behind."""
    values = {
        "actor": actor.name,
        "actor_user_id": actor.user_id,
        "door": actor.door,
        "action": action,
        "target": RUNS,
        "detail": detail,
        "request_id": actor.request_id,
    }
    newer = text("SELECT true FROM pg_attribute WHERE attrelid = to_regclass('audit_entries') AND attname = 'outcome'")
    if await session.scalar(newer):
        outcome = "failed" if detail["outcome"] == "failed" else "done"
        values |= {"api_key_id": actor.api_key_id, "outcome": outcome}
    await session.execute(insert(AuditEntry).values(values))


async def note_server(session: AsyncSession, server_id: UUID, *, revision: str, host: str, pid: int) -> None:
    """Write down that a server lives; those that have been gone for a day are forgotten."""
    row = {"id": server_id, "revision": revision, "host": host, "pid": pid}
    statement = insert(Server).values(row)
    await session.execute(statement.on_conflict_do_update(index_elements=["id"], set_={"seen_at": func.now()}))
    await session.execute(delete(Server).where(Server.seen_at < func.now() - timedelta(days=1)))


async def forget_server(session: AsyncSession, server_id: UUID) -> None:
    """Write down that a server has ended."""
    await session.execute(delete(Server).where(Server.id == server_id))


async def servers(session: AsyncSession) -> list[Server]:
    """Return the servers that live now."""
    if not await exists(session, Server.__tablename__):
        return []
    alive = select(Server).where(Server.seen_at > func.now() - LIVES).order_by(Server.started_at)
    return list(await session.scalars(alive))


async def count(session: AsyncSession, rows: str, *, most: int) -> int | None:
    """Count the rows that a query's FROM and WHERE name, up to a number; None if that fails, or takes too long."""
    try:
        found = await session.scalar(text(f"SELECT count(*) FROM (SELECT FROM {rows} LIMIT {most + 1}) AS few"))  # noqa: S608
    except (DBAPIError, TimeoutError, DatabaseTimeout):
        # A connection that was too slow is gone; the next statement gets another one.
        await session.rollback()
        return None
    return int(found or 0)
