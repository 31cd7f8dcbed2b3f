"""Who made something drift from a state, as the audit log has it."""

from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncSession

from api.audit.models import AuditEntry
from api.core.errors import DatabaseTimeout
from api.state import crud
from api.state.existing import Existing
from api.state.models import Ownership
from api.state.planning import Step

# What ends a thing that is to be made again.
ENDS = {"role.delete", "user.delete", "api_key.revoke"}


async def tell_drift(session: AsyncSession, steps: list[Step], existing: Existing) -> None:
    """Tell of each change that somebody else's has made necessary who that was, and when."""
    drifted: list[tuple[Step, Ownership]] = []
    for step in steps:
        own = existing.own.get(step.name) or existing.said.get(step.name)
        if step.resource is None or own is None or step.change.action == "renew":
            continue
        if step.found is None or any(field.is_drift for field in step.change.fields):
            drifted.append((step, own))
    if not drifted:
        return
    try:
        entries = await crud.changes_since(
            session,
            min(own.applied_at for _, own in drifted),
            target_ids={key for step, own in drifted for key in ids_of(step, own, existing)},
            roles={step.change.name for step, _ in drifted if step.change.kind == "role"},
        )
    except DatabaseTimeout:
        # An audit log of many days is no reason to see no plan.
        return
    for step, own in drifted:
        ids = ids_of(step, own, existing)
        for entry in entries:
            is_about = entry.target_id in ids or (
                step.change.kind == "role" and entry.detail.get("role") == step.change.name
            )
            if is_about and entry.at > own.applied_at and explains(entry, step):
                step.change.changed_by, step.change.changed_at = f"{entry.actor} ({entry.door})", entry.at


def ids_of(step: Step, own: Ownership, existing: Existing) -> set[UUID]:
    """Return the ids under which the audit log knows what a change is about."""
    found = set() if own.target_id is None else {own.target_id}
    return found | existing.ids.get(step.name, set())


def explains(entry: AuditEntry, step: Step) -> bool:
    """Tell whether an entry is of what made a change necessary."""
    if step.found is None:
        return entry.action in ENDS
    return any(field.is_drift and field.field in entry.detail for field in step.change.fields)
