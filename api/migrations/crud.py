"""Statements about the schema's version, and the lock under which it changes."""

from typing import Final

from sqlalchemy import Connection, text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncSession

LOCK: Final = "apictl:migrations"


async def current(executor: AsyncSession | AsyncConnection) -> list[str]:
    """Return the revisions that the database is at: none when it is empty, more than one when it is broken."""
    # Not to_regclass: while this connection waited for the lock, its catalogue cache may have kept "no such table".
    found = await executor.scalar(
        text("SELECT EXISTS (SELECT FROM pg_class WHERE relname = 'alembic_version' AND pg_table_is_visible(oid))")
    )
    if not found:
        return []
    return list((await executor.execute(text("SELECT version_num FROM alembic_version"))).scalars())


def lock(connection: Connection, *, wait_seconds: int) -> None:
    """Let one migration run at a time, until the transaction ends: a transaction's lock survives a pooler too."""
    connection.execute(text("SELECT set_config('lock_timeout', :limit, true)"), {"limit": f"{wait_seconds}s"})
    connection.execute(text("SELECT pg_advisory_xact_lock(hashtextextended(:name, 0))"), {"name": LOCK})
