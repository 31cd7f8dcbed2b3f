"""Statements about what a state names, who owns it, and who changed it last."""

from collections.abc import Collection, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import ARRAY, DateTime, Text, Uuid, and_, any_, delete, func, literal, or_, select, text, tuple_
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from api.audit.models import AuditEntry
from api.state.models import Ownership


async def take_turn(session: AsyncSession) -> None:
    """Wait until no other state is being applied; the next waits for the end of this transaction."""
    await session.execute(text("SELECT pg_advisory_xact_lock(hashtextextended('apictl:state', 0))"))


async def ownerships(
    session: AsyncSession, owner: str, kinds: Collection[str], names: Collection[str]
) -> list[Ownership]:
    """Return what an owner has, and who has what is of one of these kinds and has one of these names."""
    statement = select(Ownership).where(
        or_(
            Ownership.owner == owner,
            and_(
                Ownership.kind == any_(literal([*kinds], ARRAY(Text))),
                Ownership.name == any_(literal([*names], ARRAY(Text))),
            ),
        )
    )
    return [*await session.scalars(statement)]


async def note(session: AsyncSession, rows: Sequence[dict[str, Any]]) -> None:
    """Write down whose these are by now; a time of making that is not given stays."""
    statement = insert(Ownership)
    new = statement.excluded
    await session.execute(
        statement.on_conflict_do_update(
            index_elements=[Ownership.kind, Ownership.name],
            set_={
                "owner": new.owner,
                "target_id": new.target_id,
                "made_at": new.made_at,
                "applied": new.applied,
                "applied_at": func.now(),
            },
        ),
        rows,
    )


async def forget(session: AsyncSession, owner: str, gone: Collection[tuple[str, str]]) -> None:
    """Strike out what an owner no longer has."""
    await session.execute(
        delete(Ownership).where(Ownership.owner == owner, tuple_(Ownership.kind, Ownership.name).in_([*gone]))
    )


async def last_changes(
    session: AsyncSession,
    *,
    at: Collection[datetime],
    since: datetime | None,
    target_ids: Collection[UUID],
    roles: Collection[str],
) -> Sequence[AuditEntry]:
    """Return who did what to these, at one of these times or after one; the newest last."""
    times: list[Any] = [AuditEntry.at == any_(literal([*at], ARRAY(DateTime(timezone=True))))]
    if since is not None:
        times.append(AuditEntry.at > since)
    about = or_(
        AuditEntry.target_id == any_(literal([*target_ids], ARRAY(Uuid))),
        and_(
            AuditEntry.target == "role",
            AuditEntry.detail["role"].astext == any_(literal([*roles], ARRAY(Text))),
        ),
    )
    statement = select(AuditEntry).where(or_(*times), about).order_by(AuditEntry.at, AuditEntry.id)
    return (await session.scalars(statement)).all()
