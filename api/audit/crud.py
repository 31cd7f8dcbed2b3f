"""Statements on the audit log's tables."""

from collections.abc import AsyncIterator, Sequence
from datetime import timedelta
from typing import Any, Final, NamedTuple
from uuid import UUID

from sqlalchemy import Row, Select, Text, Uuid, bindparam, func, insert, literal, literal_column, select, text, tuple_
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncSession

from api.audit.models import AuditEntry
from api.audit.noting import DETAIL
from api.audit.schemas import AuditFilter, Outcome
from api.core.actor import Actor
from api.core.direct import Statement
from api.core.ids import uuid7
from api.core.pagination import Cursor


async def add(
    session: AsyncSession,
    actor: Actor,
    *,
    action: str,
    target: str,
    target_id: UUID | None,
    detail: dict[str, Any],
    outcome: Outcome = "done",
) -> None:
    """Insert one entry, in the transaction of the change that it records."""
    await session.execute(
        insert(AuditEntry).values(
            actor=actor.name,
            actor_user_id=actor.user_id,
            api_key_id=actor.api_key_id,
            door=actor.door,
            action=action,
            target=target,
            target_id=target_id,
            outcome=outcome,
            detail=detail,
            request_id=actor.request_id,
        )
    )


# A login that was refused: of somebody, or of nobody whom we know. What was typed in place of an address is not kept:
# it can be a password.
LOGIN_REFUSED: Final = Statement(
    insert(AuditEntry).values(
        id=bindparam("entry_id", type_=Uuid()),
        actor="nobody",
        door=bindparam("entry_door", type_=Text()),
        action="session.login",
        target="user",
        target_id=bindparam("user_id", type_=Uuid()),
        outcome="refused",
        detail=DETAIL,
        request_id=bindparam("entry_request_id", type_=Text()),
    )
)


async def add_refusal(session: AsyncSession, actor: Actor, *, operation: str, reason: str) -> None:
    """Insert that an actor was refused an operation, unless that was written down within the last minute."""
    action = "access.refuse"
    values: dict[str, Any] = {
        "id": literal(uuid7(), Uuid()),
        "actor": literal(actor.name, Text()),
        "actor_user_id": literal(actor.user_id, Uuid()),
        "api_key_id": literal(actor.api_key_id, Uuid()),
        "door": literal(actor.door, Text()),
        "action": literal(action, Text()),
        "target": literal("operation", Text()),
        "outcome": literal("refused", Text()),
        "detail": literal({"operation": operation, "reason": reason}, JSONB()),
        "request_id": literal(actor.request_id, Text()),
    }
    noted = select(AuditEntry.id).where(
        AuditEntry.actor_user_id == actor.user_id,
        AuditEntry.at > func.now() - timedelta(minutes=1),
        AuditEntry.action == action,
        AuditEntry.detail["operation"].astext == operation,
    )
    await session.execute(insert(AuditEntry).from_select(list(values), select(*values.values()).where(~noted.exists())))


class Named(NamedTuple):
    """The ids of what a filter names: of its actor, if that is a user, and of its target."""

    actor_id: UUID | None
    target_id: UUID | None


def matching(which: AuditFilter, named: Named) -> Select[AuditEntry]:
    """Return a statement for the entries that a filter asks for, in the words of the indexes."""
    found = select(AuditEntry)
    if named.actor_id is not None:
        found = found.where(AuditEntry.actor_user_id == named.actor_id)
    elif which.actor is not None:
        found = found.where(AuditEntry.actor == which.actor, AuditEntry.actor_user_id.is_(None))
    if named.target_id is not None:
        found = found.where(AuditEntry.target_id == named.target_id)
    for name in ("action", "target", "door", "outcome", "request_id"):
        value = getattr(which, name)
        if value is not None:
            found = found.where(getattr(AuditEntry, name) == value)
    if which.outcome not in {None, "done"}:
        found = found.where(AuditEntry.outcome != literal_column("'done'"))
    if which.request_id is not None:
        found = found.where(AuditEntry.request_id != literal_column("''"))
    if which.since is not None:
        found = found.where(AuditEntry.at >= which.since)
    if which.until is not None:
        found = found.where(AuditEntry.at < which.until)
    return found


async def newest(
    session: AsyncSession, which: AuditFilter, named: Named, *, limit: int, after: Cursor | None
) -> list[AuditEntry]:
    """Return up to `limit + 1` entries, the newest first."""
    statement = matching(which, named)
    if after is not None:
        statement = statement.where(tuple_(AuditEntry.at, AuditEntry.id) < tuple_(after.value, after.id))
    ordered = statement.order_by(AuditEntry.at.desc(), AuditEntry.id.desc()).limit(limit + 1)
    return list(await session.scalars(ordered))


async def oldest(
    session: AsyncSession, which: AuditFilter, named: Named, *, limit: int, after: Cursor | None
) -> list[AuditEntry]:
    """Return up to `limit` entries, the oldest first."""
    statement = matching(which, named)
    if after is not None:
        statement = statement.where(tuple_(AuditEntry.at, AuditEntry.id) > tuple_(after.value, after.id))
    return list(await session.scalars(statement.order_by(AuditEntry.at, AuditEntry.id).limit(limit)))


# As `chain.digest` takes it: what no reader of dates can refuse, and the detail in PostgreSQL's own words. Named with
# their schema: nobody else's functions of these names are asked.
RAW: Final = """
    SELECT id, pg_catalog.timestamptz_send(at), actor, actor_user_id, api_key_id, door, action, target, target_id,
           outcome, detail::pg_catalog.text, request_id
    FROM audit_entries
"""
UNLINKED: Final = text("SELECT id FROM audit_entries EXCEPT SELECT unnest(entries) FROM audit_links ORDER BY id")


# What lets somebody add, change or leave out entries behind the chain's back.
UNGUARDED: Final = text("""
    SELECT 'trigger ' || name, 'it is gone, or disabled'
    FROM (VALUES ('audit_entries', 'link_audit_entries'), ('audit_entries', 'refuse_audit_change'),
                 ('audit_links', 'refuse_audit_change')) AS ours (place, name)
    WHERE NOT EXISTS (
        SELECT FROM pg_trigger WHERE tgrelid = place::regclass AND tgname = name AND tgenabled IN ('O', 'A')
    )
    UNION ALL
    SELECT 'rule ' || rulename, 'it is on ' || ev_class::regclass || ', and may leave entries out'
    FROM pg_rewrite WHERE ev_class IN ('audit_entries'::regclass, 'audit_links'::regclass)
    UNION ALL
    SELECT 'trigger ' || tgname, 'it is on ' || tgrelid::regclass || ', and none of ours'
    FROM pg_trigger WHERE tgrelid IN ('audit_entries'::regclass, 'audit_links'::regclass) AND NOT tgisinternal
        AND tgname NOT IN ('link_audit_entries', 'refuse_audit_change')
    UNION ALL
    SELECT 'table ' || inhrelid::regclass, 'what is in it is shown as entries of the log'
    FROM pg_inherits WHERE inhparent IN ('audit_entries'::regclass, 'audit_links'::regclass)
""")


async def unguarded(connection: AsyncConnection) -> list[tuple[str, str]]:
    """Return what of the tables' own guards is not as it was made, and what is wrong with it."""
    return [(str(row[0]), str(row[1])) for row in await connection.execute(UNGUARDED)]


async def links(connection: AsyncConnection, *, at_once: int) -> AsyncIterator[Sequence[Row[Any]]]:
    """Yield every link in its lane's order, so many at once."""
    statement = text("SELECT lane, n, entries, digests, hash FROM audit_links ORDER BY lane, n")
    async with connection.stream(statement, execution_options={"yield_per": at_once}) as found:
        async for part in found.partitions():
            yield part


async def raw_entries(connection: AsyncConnection, ids: list[UUID]) -> Sequence[Row[Any]]:
    """Return the entries with these ids, as they are digested."""
    return (await connection.execute(text(f"{RAW} WHERE id = ANY(:ids)"), {"ids": ids})).all()


async def unlinked(connection: AsyncConnection) -> AsyncIterator[UUID]:
    """Yield the ids of entries that no link has."""
    async with connection.stream(UNLINKED, execution_options={"yield_per": 1000}) as found:
        async for row in found:
            yield row.id
