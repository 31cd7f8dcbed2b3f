"""Statements about who owns what a state names, and who changed it last."""

from collections.abc import Collection, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import ARRAY, Text, Uuid, and_, any_, case, delete, func, literal, or_, select, text, tuple_
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from api.api_keys.models import ApiKey
from api.audit.models import AuditEntry
from api.roles.models import Role
from api.state.models import Ownership

LOCK = "apictl:state"


async def try_lock(session: AsyncSession) -> bool:
    """Be the only one who applies a state until the transaction ends; False if another one does."""
    got = await session.scalar(text("SELECT pg_try_advisory_xact_lock(hashtextextended(:name, 0))"), {"name": LOCK})
    return bool(got)


async def owned_by(session: AsyncSession, owner: str) -> list[tuple[Ownership, UUID | None]]:
    """Return what an owner has, and the id of the account that it is, or whose key it is; by kinds and names."""
    user_id = case((Ownership.kind == "api-key", ApiKey.user_id), else_=Ownership.target_id)
    statement = select(Ownership, user_id)
    statement = statement.outerjoin(ApiKey, ApiKey.id == Ownership.target_id).where(Ownership.owner == owner)
    rows = await session.execute(statement.order_by(Ownership.kind, Ownership.name))
    return [(row, account_id) for row, account_id in rows]


async def owned_by_others(session: AsyncSession, owner: str, target_ids: Collection[UUID]) -> Sequence[Ownership]:
    """Return what others have of the roles, accounts and keys with these ids."""
    statement = select(Ownership).where(
        Ownership.target_id == any_(literal([*target_ids], ARRAY(Uuid))), Ownership.owner != owner
    )
    return (await session.scalars(statement.order_by(Ownership.applied_at, Ownership.owner))).all()


async def with_keys_of_others(session: AsyncSession, owner: str, user_ids: Collection[UUID]) -> Sequence[UUID]:
    """Return which of these accounts have API keys that others have."""
    statement = select(ApiKey.user_id).join(Ownership, Ownership.target_id == ApiKey.id)
    statement = statement.where(Ownership.owner != owner, ApiKey.user_id == any_(literal([*user_ids], ARRAY(Uuid))))
    return (await session.scalars(statement.distinct())).all()


async def says_of_others(session: AsyncSession, roles: Collection[str]) -> bool:
    """Tell whether a state says something of a role of one of these names that is another one by now."""
    statement = (
        select(Ownership.name)
        .join(Role, Role.name == Ownership.name)
        .where(
            Ownership.kind == "role",
            Ownership.name == any_(literal([*roles], ARRAY(Text))),
            Ownership.target_id.is_distinct_from(Role.id),
        )
    )
    return await session.scalar(statement.limit(1)) is not None


async def note(session: AsyncSession, rows: Sequence[dict[str, Any]]) -> None:
    """Write down whose these are by now; each row has every column but the time."""
    statement = insert(Ownership)
    names = ("target_id", "made_at", "applied")
    values = {name: statement.excluded[name] for name in names} | {"applied_at": func.now()}
    key = [Ownership.owner, Ownership.kind, Ownership.name]
    await session.execute(statement.on_conflict_do_update(index_elements=key, set_=values), rows)


async def forget(session: AsyncSession, rows: Collection[Ownership]) -> None:
    """Strike out what these rows say."""
    columns = [literal([getattr(row, name) for row in rows], ARRAY(Text)) for name in ("owner", "kind", "name")]
    gone = select(*(func.unnest(column) for column in columns))
    key = tuple_(Ownership.owner, Ownership.kind, Ownership.name)
    await session.execute(delete(Ownership).where(key.in_(gone)))


async def changes_since(
    session: AsyncSession, since: datetime, *, target_ids: Collection[UUID], roles: Collection[str]
) -> Sequence[AuditEntry]:
    """Return what was done to these users, keys and roles since then, in the order in which it was."""
    about = or_(
        AuditEntry.target_id == any_(literal([*target_ids], ARRAY(Uuid))),
        and_(AuditEntry.target == "role", AuditEntry.detail["role"].astext == any_(literal([*roles], ARRAY(Text)))),
    )
    statement = select(AuditEntry).where(AuditEntry.at > since, about).order_by(AuditEntry.at, AuditEntry.id)
    return (await session.scalars(statement)).all()
