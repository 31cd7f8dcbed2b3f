"""Statements on the table of signing keys."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any, Final
from uuid import UUID

from sqlalchemy import func, select, text, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from api.signing_keys.models import SigningKeyRow

LOCK: Final = "apictl signing keys"


async def lock(session: AsyncSession) -> None:
    """Let one transaction at a time decide about the signing keys."""
    await session.execute(text("SELECT pg_advisory_xact_lock(hashtextextended(:name, 0))"), {"name": LOCK})


async def usable(session: AsyncSession) -> Sequence[SigningKeyRow]:
    """Return the keys that sign, will sign, or still verify."""
    statement = select(SigningKeyRow).where(SigningKeyRow.retired_at.is_(None)).order_by(SigningKeyRow.number)
    return (await session.scalars(statement)).all()


async def newest(session: AsyncSession, *, limit: int) -> Sequence[SigningKeyRow]:
    """Return the newest keys, retired or not, the newest first."""
    statement = select(SigningKeyRow).order_by(SigningKeyRow.number.desc()).limit(limit)
    return (await session.scalars(statement)).all()


async def by_id(session: AsyncSession, key_id: UUID) -> SigningKeyRow | None:
    """Return a key."""
    return await session.get(SigningKeyRow, key_id, populate_existing=True)


async def last_number(session: AsyncSession) -> int:
    """Return how many keys there have been."""
    return await session.scalar(select(func.coalesce(func.max(SigningKeyRow.number), 0))) or 0


async def add(session: AsyncSession, *, number: int, wait: timedelta, **values: Any) -> SigningKeyRow | None:
    """Insert a key that signs after the wait, by the database's clock; None if there is one of this number."""
    statement = (
        insert(SigningKeyRow)
        .values(number=number, active_from=func.now() + wait, **values)
        .on_conflict_do_nothing(index_elements=["number"])
        .returning(SigningKeyRow)
    )
    return (await session.scalars(statement)).one_or_none()


async def retire(session: AsyncSession, key_id: UUID) -> datetime | None:
    """End a key, and destroy what signs with it; None if it had ended before."""
    statement = (
        update(SigningKeyRow)
        .where(SigningKeyRow.id == key_id, SigningKeyRow.retired_at.is_(None))
        .values(retired_at=func.now(), sealed=None)
        .returning(SigningKeyRow.retired_at)
    )
    return await session.scalar(statement)


async def now(session: AsyncSession) -> datetime:
    """Return the database's time: keys begin and end by it."""
    moment: datetime = (await session.execute(select(func.now()))).scalar_one()
    return moment
