"""The table of what the owners of states have made or set."""

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Index, Text, func
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column

from api.database import Base


class Ownership(Base):
    """What an owner's state said of a role, an account or a key that it made or changed.

    No foreign keys: that something is gone which somebody else deleted is told from here.
    """

    __tablename__ = "ownerships"
    __table_args__ = (
        Index("ix_ownerships_kind_name", "kind", "name"),
        Index("ix_ownerships_target_id", "target_id"),
    )

    owner: Mapped[str] = mapped_column(Text(collation="C"), primary_key=True)
    kind: Mapped[str] = mapped_column(Text(collation="C"), primary_key=True)
    name: Mapped[str] = mapped_column(Text(collation="C"), primary_key=True)
    # A user's or a key's, by which it is found whatever it is called by now; None for a role.
    target_id: Mapped[UUID | None]
    # When the owner made it, which is when it was created: another one of the same name is not theirs. None: it was
    # there before, and so is never theirs to delete.
    made_at: Mapped[datetime | None]
    # The fields that the state named, with their values.
    applied: Mapped[dict[str, Any]] = mapped_column(JSONB)
    applied_at: Mapped[datetime] = mapped_column(server_default=func.now())
