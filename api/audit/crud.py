"""Statements on the audit table."""

from typing import Any
from uuid import UUID

from sqlalchemy import insert
from sqlalchemy.ext.asyncio import AsyncSession

from api.audit.models import AuditEntry
from api.core.actor import Actor


async def add(
    session: AsyncSession,
    actor: Actor,
    *,
    action: str,
    target: str,
    target_id: UUID | None,
    detail: dict[str, Any],
) -> None:
    """Insert one entry, in the transaction of the change that it records."""
    await session.execute(
        insert(AuditEntry).values(
            actor=actor.name,
            actor_user_id=actor.user_id,
            door=actor.door,
            action=action,
            target=target,
            target_id=target_id,
            detail=detail,
            request_id=actor.request_id,
        )
    )
