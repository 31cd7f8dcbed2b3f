"""What only the owner of a database can do to its audit log."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import asyncpg

TABLES = ("audit_entries", "audit_links")


@asynccontextmanager
async def unguarded(database: asyncpg.Connection) -> AsyncIterator[None]:
    """Let the block change the log, and insert around its chain."""
    for table in TABLES:
        await database.execute(f"ALTER TABLE {table} DISABLE TRIGGER USER")
    yield
    for table in TABLES:
        await database.execute(f"ALTER TABLE {table} ENABLE TRIGGER USER")


async def forget_audit(database: asyncpg.Connection) -> None:
    """Empty the log."""
    async with unguarded(database):
        await database.execute("TRUNCATE audit_entries, audit_links")
