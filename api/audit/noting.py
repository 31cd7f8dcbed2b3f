"""Entries that are written by the very statement of the change that they record."""

from typing import Any, Final
from uuid import UUID

from pydantic_core import to_json
from sqlalchemy import CTE, Text, Uuid, bindparam, cast, insert, literal, select
from sqlalchemy.dialects.postgresql import JSONB

from api.audit.models import AuditEntry
from api.core.actor import Door
from api.core.ids import uuid7

DETAIL: Final = cast(bindparam("entry_detail", type_=Text()), JSONB)


def noting(change: CTE, *, action: str, target: str, actor: Any, actor_user_id: Any, detail: Any = DETAIL) -> CTE:
    """Return a part of a statement that notes what another part of it does to the row with this `id`.

    The actor is in columns of that part, or in parameters, and so is the detail; whoever sends it has `entry` for the
    other values.
    """
    values = {
        "id": bindparam("entry_id", type_=Uuid()),
        "actor": actor,
        "actor_user_id": actor_user_id,
        "api_key_id": bindparam("entry_api_key_id", type_=Uuid()),
        "door": bindparam("entry_door", type_=Text()),
        "action": literal(action, Text()),
        "target": literal(target, Text()),
        "target_id": change.c.id,
        "detail": detail,
        "request_id": bindparam("entry_request_id", type_=Text()),
    }
    return insert(AuditEntry).from_select(list(values), select(*values.values()).select_from(change)).cte("noted")


def entry(
    *, door: Door, request_id: str, detail: dict[str, Any] | None = None, api_key_id: UUID | None = None
) -> dict[str, Any]:
    """Return the values that `noting` wants."""
    return {
        "entry_id": uuid7(),
        "entry_api_key_id": api_key_id,
        "entry_door": door,
        "entry_detail": to_json(detail).decode(),
        "entry_request_id": request_id,
    }
