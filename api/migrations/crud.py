"""Statements about the schema's version, the runs that changed it, and the lock under which it changes."""

from typing import Any, Final

from sqlalchemy import Row, select, text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncSession

from api.audit.models import AuditEntry
from api.migrations.models import AppliedMigration

LOCK: Final = "apictl:migrations"
RUNS: Final = "schema"


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


async def lock(session: AsyncSession, *, wait_seconds: float) -> None:
    """Let one run at a time work on the schema, until the transaction ends: such a lock survives a pooler too."""
    await limit(session, "lock_timeout", wait_seconds)
    await session.execute(text("SELECT pg_advisory_xact_lock(hashtextextended(:name, 0))"), {"name": LOCK})


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
    return list(await session.scalars(latest.limit(count)))
