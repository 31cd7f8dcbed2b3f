"""The table of roles. Who has one is written in the user's own row: `users.roles`."""

from datetime import datetime
from typing import Any, Final
from uuid import UUID

from sqlalchemy import ScalarSelect, Text, any_, func, literal_column, select, text
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.orm import Mapped, mapped_column

from api.database import Base
from api.users.models import User


class Role(Base):
    """A named set of scopes."""

    __tablename__ = "roles"

    name: Mapped[str] = mapped_column(Text(collation="C"), primary_key=True)
    # Another one of the same name has another.
    id: Mapped[UUID] = mapped_column(server_default=func.gen_random_uuid())
    description: Mapped[str] = mapped_column(server_default="")
    scopes: Mapped[list[str]] = mapped_column(ARRAY(Text))
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    updated_at: Mapped[datetime] = mapped_column(server_default=func.now())
    version: Mapped[int] = mapped_column(server_default=text("1"))


def scopes_by_role(roles: Any) -> ScalarSelect[Any]:
    """Return a column for a statement about users: the scopes of each of these roles."""
    found = func.jsonb_object_agg(Role.name, Role.scopes)
    named = select(func.coalesce(found, literal_column("'{}'::jsonb"))).where(Role.name == any_(roles))
    return named.correlate_except(Role).scalar_subquery()


# Of those that they have.
SCOPES_BY_ROLE: Final = scopes_by_role(User.roles)
