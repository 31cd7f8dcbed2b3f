"""Statements on the table of requests that are done once."""

from datetime import timedelta

from sqlalchemy import delete, func, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from api.idempotency.models import IdempotencyKey

# Of what is over, so many are removed by each one that comes: more than come, so that it never grows.
CLEANED = 10


async def take_turn(session: AsyncSession, digest: bytes) -> bool:
    """Hold a key to the transaction's end; False: somebody else's transaction does."""
    number = int.from_bytes(digest[:8], signed=True)
    return bool(await session.scalar(select(func.pg_try_advisory_xact_lock(number))))


async def by_digest(session: AsyncSession, digest: bytes) -> IdempotencyKey | None:
    """Return what was done under a key."""
    statement = select(IdempotencyKey).where(IdempotencyKey.digest == digest, IdempotencyKey.expires_at > func.now())
    return (await session.scalars(statement)).one_or_none()


async def add(session: AsyncSession, *, digest: bytes, fingerprint: bytes, answer: bytes, kept: timedelta) -> bool:
    """Insert what was done under a key, and remove some of what is over; False if somebody else has done it."""
    over = (
        select(IdempotencyKey.digest)
        .where(IdempotencyKey.expires_at <= func.now())
        .order_by(IdempotencyKey.expires_at)
        .limit(CLEANED)
        .with_for_update(skip_locked=True)
    )
    values = {"fingerprint": fingerprint, "answer": answer, "created_at": func.now(), "expires_at": func.now() + kept}
    # In the place of one that is over, perhaps. It is here that it is decided: whoever waited for a password's hash
    # between its turn and this has ended that transaction, and the turn with it.
    statement = insert(IdempotencyKey).values(digest=digest, **values)
    statement = statement.on_conflict_do_update(
        index_elements=["digest"], set_=values, where=IdempotencyKey.expires_at <= func.now()
    )
    is_first = await session.scalar(statement.returning(IdempotencyKey.digest)) is not None
    await session.execute(delete(IdempotencyKey).where(IdempotencyKey.digest.in_(over)))
    return is_first
