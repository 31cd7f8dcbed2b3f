"""A user as a statement about something of theirs has them: what is shown, and what they may do."""

from collections.abc import Sequence
from functools import lru_cache
from typing import Final

import asyncpg
from pydantic_core import from_json
from sqlalchemy import RowMapping

from api.core.actor import Powers, Scope
from api.roles.models import SCOPES_BY_ROLE
from api.users.models import User
from api.users.schemas import UserRead

# Columns for a statement: what is shown, and besides what they may do.
SHOWN: Final = tuple(getattr(User, name) for name in UserRead.model_fields)
ACCOUNT: Final = (*SHOWN, SCOPES_BY_ROLE.label("scopes_by_role"))


def account(row: asyncpg.Record | RowMapping) -> UserRead:
    """Return the user in a row, as both doors show them."""
    return UserRead.model_construct(**{name: row[name] for name in UserRead.model_fields})


def handle(row: asyncpg.Record) -> str:
    """Return what the user in a row is called by everybody."""
    return row["email"] or row["name"] or ""


def scopes(row: asyncpg.Record) -> frozenset[Scope]:
    """Return what the credential in a row may do now; its JSON as the database wrote it."""
    granted: Sequence[str] | None = row["granted"]
    return held(row["is_superuser"], row["scopes_by_role"], None if granted is None else tuple(granted))


@lru_cache(maxsize=4096)
def held(is_superuser: bool, scopes_by_role: str, granted: tuple[str, ...] | None) -> frozenset[Scope]:  # noqa: FBT001 - cached
    """Return the scopes of these powers: few of them are different from all others."""
    return Powers(is_superuser=is_superuser, roles=from_json(scopes_by_role), granted=granted).scopes
