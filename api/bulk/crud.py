"""Statements for many users at once."""

from collections.abc import Sequence
from typing import Any, Final
from uuid import UUID

import asyncpg
from sqlalchemy import select, text
from sqlalchemy.ext.asyncio import AsyncSession

from api.bulk.reading import NewUser
from api.users.models import User

COLUMNS: Final = ("id", *NewUser._fields)
STAGING: Final = text("""
    CREATE TEMPORARY TABLE IF NOT EXISTS staged_users (
        id uuid, line bigint, email text COLLATE "C", full_name text, is_active boolean, is_superuser boolean,
        roles text[], email_verified_at timestamptz, created_at timestamptz, password_hash text
    ) ON COMMIT DELETE ROWS
""")
# The unique index decides who is there already, also between two imports at once; in the order of addresses, so that
# they wait for each other and never both. An entry has the id of the user whom it is about: one thing less to make.
MERGE: Final = text("""
    WITH created AS (
        INSERT INTO users (id, email, full_name, is_active, is_superuser, roles, email_verified_at, created_at,
                           password_hash)
        SELECT id, email, full_name, is_active, is_superuser, roles, email_verified_at, coalesce(created_at, now()),
               password_hash
        FROM staged_users
        ORDER BY email, line
        ON CONFLICT (email) DO NOTHING
        RETURNING id, email, is_superuser
    ), noted AS (
        INSERT INTO audit_entries (id, actor, actor_user_id, api_key_id, door, action, target, target_id, detail,
                                   request_id)
        SELECT id, :actor, CAST(:actor_user_id AS uuid), CAST(:api_key_id AS uuid), :door, 'user.create', 'user', id,
               jsonb_build_object('email', email, 'is_superuser', is_superuser, 'imported', true), :request_id
        FROM created
    )
    SELECT id FROM staged_users EXCEPT SELECT id FROM created
""")


async def take_turn(session: AsyncSession, *, alone: bool) -> None:
    """Wait until nobody imports who wants to be alone; or, to be alone, until nobody does."""
    way = "pg_advisory_xact_lock" if alone else "pg_advisory_xact_lock_shared"
    await session.execute(text(f"SELECT {way}(hashtextextended('apictl:import', 0))"))


async def insert_users(session: AsyncSession, records: Sequence[tuple[Any, ...]], **entry: Any) -> set[UUID]:
    """Insert users, each noted in the audit log, and return the ids of those whose address was taken.

    Args:
        session: Its transaction.
        records: In the order of COLUMNS.
        entry: Who did it: `actor`, `actor_user_id`, `api_key_id`, `door` and `request_id`.
    """
    await session.execute(STAGING)
    connection = await session.connection()
    driver: asyncpg.Connection = (await connection.get_raw_connection()).driver_connection  # type: ignore[assignment]
    await driver.copy_records_to_table("staged_users", records=records, columns=COLUMNS)
    left_out = set(await session.scalars(MERGE, entry))
    # For the next ones, if they are in the same transaction.
    await session.execute(text("TRUNCATE staged_users"))
    return left_out


async def look_again(session: AsyncSession) -> None:
    """Have PostgreSQL find that there are many users now, and make new plans, also of servers that knew but a few.

    Autovacuum would do so within a minute, in which they could read all of them to find one. Who does not own the table
    may not, and waits for that; PostgreSQL only warns of it.
    """
    # By one column: statistics of all, with the words of the search, would take as long as the import of ten thousand.
    await session.execute(text("ANALYZE users (id)"))


async def people_after(session: AsyncSession, email: str, *, limit: int) -> Sequence[User]:
    """Return the next people in the order of their addresses."""
    statement = select(User).where(User.kind == "person", User.email > email).order_by(User.email).limit(limit)
    return (await session.scalars(statement)).all()
