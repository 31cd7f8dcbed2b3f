"""Statements on the table of signing keys."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

from sqlalchemy import RowMapping, func, insert, select, text, update
from sqlalchemy.ext.asyncio import AsyncSession

from api.core.direct import Statement
from api.core.keyset import newest_first
from api.core.pagination import Cursor
from api.signing_keys.jwk import SealedKey
from api.signing_keys.models import SigningKeyRow

LOCK: Final = "apictl signing keys"


async def lock(session: AsyncSession) -> None:
    """Let one transaction at a time decide about the signing keys."""
    await session.execute(text("SELECT pg_advisory_xact_lock(hashtextextended(:name, 0))"), {"name": LOCK})


# What a process's ring is made of, and the database's time: read by every process, every second.
RING: Final = Statement(
    select(
        SigningKeyRow.id,
        SigningKeyRow.number,
        SigningKeyRow.algorithm,
        SigningKeyRow.public_jwk,
        SigningKeyRow.sealed,
        SigningKeyRow.active_from,
        func.clock_timestamp().label("now"),
    )
    .where(SigningKeyRow.retired_at.is_(None))
    .order_by(SigningKeyRow.number)
)


async def ring(session: AsyncSession) -> Sequence[RowMapping]:
    """Return the same, in a transaction."""
    return (await session.execute(RING.executable)).mappings().all()


async def usable(session: AsyncSession) -> Sequence[SigningKeyRow]:
    """Return the keys that sign, will sign, or still verify."""
    statement = select(SigningKeyRow).where(SigningKeyRow.retired_at.is_(None)).order_by(SigningKeyRow.number)
    return (await session.scalars(statement)).all()


async def page(session: AsyncSession, *, limit: int, after: Cursor | None) -> list[SigningKeyRow]:
    """Return up to `limit + 1` keys, retired or not, the newest first."""
    return list(await session.scalars(newest_first(select(SigningKeyRow), SigningKeyRow, limit=limit, after=after)))


async def by_id(session: AsyncSession, key_id: UUID) -> SigningKeyRow | None:
    """Return a key."""
    return await session.get(SigningKeyRow, key_id, populate_existing=True)


async def add(session: AsyncSession, new: SealedKey, *, wait: timedelta = timedelta(0)) -> SigningKeyRow:
    """Insert a key that signs after the wait, by the database's clock; the caller holds the lock."""
    last = select(func.coalesce(func.max(SigningKeyRow.number), 0)).scalar_subquery()
    statement = (
        insert(SigningKeyRow)
        .values(
            id=new.id,
            number=last + 1,
            algorithm=new.algorithm,
            public_jwk=new.public_jwk,
            sealed=new.sealed,
            active_from=func.now() + wait,
        )
        .returning(SigningKeyRow)
    )
    return (await session.scalars(statement)).one()


async def retire(session: AsyncSession, key_id: UUID) -> SigningKeyRow | None:
    """End a key, and destroy what signs with it; None if it had ended before."""
    statement = (
        update(SigningKeyRow)
        .where(SigningKeyRow.id == key_id, SigningKeyRow.retired_at.is_(None))
        .values(retired_at=func.now(), sealed=None)
        .returning(SigningKeyRow)
        .execution_options(populate_existing=True)
    )
    return (await session.scalars(statement)).one_or_none()


async def now(session: AsyncSession) -> datetime:
    """Return the database's time, by which keys begin and end.

    Not the time when the transaction began: a key that it waited for would not have begun.
    """
    moment: datetime = (await session.execute(select(func.clock_timestamp()))).scalar_one()
    return moment
