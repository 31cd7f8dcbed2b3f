"""The table of what a state's owner has made or manages."""

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Index, Text, func
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column

from api.database import Base


class Ownership(Base):
    """Whose state a role, an account or a key was in when it was applied last.

    No foreign keys: that something is gone which somebody else deleted is told from here.
    """

    __tablename__ = "ownerships"
    __table_args__ = (Index("ix_ownerships_owner", "owner"),)

    kind: Mapped[str] = mapped_column(Text(collation="C"), primary_key=True)
    name: Mapped[str] = mapped_column(Text(collation="C"), primary_key=True)
    owner: Mapped[str] = mapped_column(Text(collation="C"))
    # A user's or a key's; None for a role.
    target_id: Mapped[UUID | None]
    # When the owner made it, which is when it was created: another one of the same name is not theirs. None: it was
    # there before, and so is never theirs to delete.
    made_at: Mapped[datetime | None]
    # The fields that the state named, with their values.
    applied: Mapped[dict[str, Any]] = mapped_column(JSONB)
    applied_at: Mapped[datetime] = mapped_column(server_default=func.now())
