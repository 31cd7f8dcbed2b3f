"""Statements on the table of API keys."""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final
from uuid import UUID

from sqlalchemy import ARRAY, Row, Text, Uuid, and_, any_, bindparam, func, insert, literal, or_, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from api.api_keys.models import ApiKey
from api.core.direct import Statement
from api.core.keyset import newest_first
from api.core.pagination import Cursor
from api.users.accounts import ACCOUNT
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


# The owners of live keys, if they are active, how to check the keys, and what they may do: for each request.
IDENTITIES: Final = Statement(
    select(
        ApiKey.id.label("key"),
        ApiKey.digest,
        ApiKey.networks,
        ApiKey.expires_at,
        ApiKey.scopes.label("granted"),
        UNNOTED.label("unnoted"),
        *ACCOUNT,
    )
    .join(User, User.id == ApiKey.user_id)
    .where(ApiKey.id == any_(bindparam("keys", type_=ARRAY(Uuid))), LIVE, User.is_active)
)
# That a key was used, unless that was written down a moment ago.
NOTE_USE: Final = Statement(
    update(ApiKey)
    .where(ApiKey.id == bindparam("key_id"), UNNOTED)
    .values(last_used_at=func.now(), last_used_address=bindparam("address"))
)


async def identity(session: AsyncSession, key_id: UUID) -> Row[Any] | None:
    """Return who is behind a live key, as a request's own transaction sees it."""
    return (await session.execute(IDENTITIES.executable, {"keys": [key_id]})).one_or_none()


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


async def of_users(
    session: AsyncSession, user_ids: Collection[UUID], *, names: Collection[str] | None = None
) -> list[OwnedKey]:
    """Return the live keys of these users, or all that ever had one of these names; the newest last.

    Here a key is live also if its owner is deactivated: activated, they have it again.
    """
    statement = select(ApiKey, User, LIVE).join(User, User.id == ApiKey.user_id)
    statement = statement.where(ApiKey.user_id == any_(literal([*user_ids], ARRAY(Uuid))))
    statement = statement.where(LIVE if names is None else ApiKey.name == any_(literal([*names], ARRAY(Text))))
    ordered = statement.order_by(ApiKey.user_id, ApiKey.created_at, ApiKey.id)
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
