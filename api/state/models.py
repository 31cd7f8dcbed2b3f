"""The table of what states name, by their owners."""

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Index, Text, func
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column

from api.database import Base


class Ownership(Base):
    """What an owner's state said of a role, an account or a key when it was applied.

    There is one for everything that it names, if whoever applied it could change that.

    No foreign keys: that something is gone which somebody else deleted is told from here.
    """

    __tablename__ = "ownerships"
    __table_args__ = (Index("ix_ownerships_target_id", "target_id"),)

    owner: Mapped[str] = mapped_column(Text(collation="C"), primary_key=True)
    kind: Mapped[str] = mapped_column(Text(collation="C"), primary_key=True)
    name: Mapped[str] = mapped_column(Text(collation="C"), primary_key=True)
    # By which it is found, whatever it is called by now; None where it was gone before roles had any.
    target_id: Mapped[UUID | None]
    # When it was made, if the owner made it, or has it from who did. None: it was there before, and so is never theirs
    # to delete.
    made_at: Mapped[datetime | None]
    # The fields that the state named, with their values.
    applied: Mapped[dict[str, Any]] = mapped_column(JSONB)
    applied_at: Mapped[datetime] = mapped_column(server_default=func.now())
