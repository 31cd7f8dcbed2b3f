"""Statements about the database's server itself."""

from typing import Any, Literal

import asyncpg
from sqlalchemy import Row, text
from sqlalchemy.ext.asyncio import AsyncSession

Pooling = Literal["none", "session", "transaction"]


async def facts(session: AsyncSession) -> Row[Any]:
    """Return what the server says of itself."""
    found = await session.execute(
        text(
            "SELECT current_setting('server_version') AS version, "
            "current_setting('server_version_num')::int AS version_number, "
            "current_setting('server_encoding') AS encoding, "
            "pg_is_in_recovery() OR current_setting('transaction_read_only')::bool AS is_read_only, "
            "current_setting('max_connections')::int - current_setting('superuser_reserved_connections')::int AS most, "
            # The kind of a process is not shown to everybody; what has no database is none of a client's.
            "(SELECT count(datid) FROM pg_stat_activity) AS connected, "
            "clock_timestamp() AS now"
        )
    )
    return found.one()


async def pooling(one: asyncpg.Connection, other: asyncpg.Connection) -> Pooling:
    """Return what stands between us and the database, seen by what two connections of ours get there."""
    backend = await one.fetchval("SELECT pg_backend_pid()")
    if backend == one.get_server_pid():
        return "none"
    async with other.transaction():
        if await other.fetchval("SELECT pg_backend_pid()") == backend:
            # Both are connected, and both had the same.
            return "transaction"
        return "session" if await one.fetchval("SELECT pg_backend_pid()") == backend else "transaction"
