"""Statements on the table of API keys."""

from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import Row, and_, func, insert, or_, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from api.api_keys.models import ApiKey
from api.core.pagination import Cursor, newest_first
from api.roles.models import SCOPES_BY_ROLE
from api.users.models import User

LIVE = and_(ApiKey.revoked_at.is_(None), or_(ApiKey.expires_at.is_(None), ApiKey.expires_at > func.now()))
OWNED = select(ApiKey, User, and_(LIVE, User.is_active)).join(User, User.id == ApiKey.user_id)
# A write a minute and key at most, however often it is used.
UNNOTED = or_(ApiKey.last_used_at.is_(None), ApiKey.last_used_at < func.now() - timedelta(minutes=1))


@dataclass(frozen=True, slots=True)
class OwnedKey:
    """An API key with its owner, and whether it works now."""

    key: ApiKey
    user: User
    is_live: bool


async def add(session: AsyncSession, *, lifetime: timedelta | None, **values: Any) -> ApiKey:
    """Insert a key that ends so long from now, by the database's clock."""
    expires_at = None if lifetime is None else func.now() + lifetime
    statement = insert(ApiKey).values(expires_at=expires_at, **values).returning(ApiKey)
    return (await session.execute(statement)).scalar_one()


async def identity(session: AsyncSession, key_id: UUID) -> Row[Any] | None:
    """Return who is behind a live key of an active user, and how to check it: one statement a request."""
    statement = (
        select(
            ApiKey.digest,
            ApiKey.scopes,
            ApiKey.networks,
            ApiKey.expires_at,
            UNNOTED.label("unnoted"),
            User.id.label("user_id"),
            User.handle.label("handle"),
            User.kind,
            User.is_superuser,
            SCOPES_BY_ROLE.label("roles"),
        )
        .join(User, User.id == ApiKey.user_id)
        .where(ApiKey.id == key_id, LIVE, User.is_active)
    )
    return (await session.execute(statement)).one_or_none()


async def note_use(session: AsyncSession, key_id: UUID, *, address: str) -> None:
    """Write down that a key was used, unless that was written down a moment ago."""
    await session.execute(
        update(ApiKey).where(ApiKey.id == key_id, UNNOTED).values(last_used_at=func.now(), last_used_address=address)
    )


async def owned(session: AsyncSession, key_id: UUID, *, lock: bool = False) -> OwnedKey | None:
    """Return a key with its owner, the key locked until the transaction ends if asked."""
    statement = OWNED.where(ApiKey.id == key_id)
    if lock:
        statement = statement.with_for_update(of=ApiKey).execution_options(populate_existing=True)
    row = (await session.execute(statement)).one_or_none()
    return None if row is None else OwnedKey(*row)


async def page(
    session: AsyncSession, *, user_id: UUID | None, live_only: bool, limit: int, after: Cursor | None
) -> list[OwnedKey]:
    """Return up to `limit + 1` keys, the newest first."""
    statement = OWNED
    if user_id is not None:
        statement = statement.where(ApiKey.user_id == user_id)
    if live_only:
        statement = statement.where(LIVE)
    ordered = newest_first(statement, ApiKey, limit=limit, after=after)
    return [OwnedKey(*row) for row in await session.execute(ordered)]


async def succeed(session: AsyncSession, key_id: UUID, *, successor_id: UUID, overlap: timedelta) -> None:
    """Name a key's successor, and let the key end after the overlap, or before if it would."""
    await session.execute(
        update(ApiKey)
        .where(ApiKey.id == key_id)
        .values(successor_id=successor_id, expires_at=func.least(ApiKey.expires_at, func.now() + overlap))
    )


async def revoke(session: AsyncSession, key_id: UUID) -> ApiKey | None:
    """End a key; None if it was revoked before."""
    statement = (
        update(ApiKey)
        .where(ApiKey.id == key_id, ApiKey.revoked_at.is_(None))
        .values(revoked_at=func.now())
        .returning(ApiKey)
        .execution_options(populate_existing=True)
    )
    return (await session.scalars(statement)).one_or_none()
