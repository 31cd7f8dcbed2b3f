"""The tables of what was done to the schema, and of who relies on it."""

from datetime import datetime
from uuid import UUID

from sqlalchemy import func
from sqlalchemy.orm import Mapped, mapped_column

from api.core.ids import uuid7
from api.database import Base


class AppliedMigration(Base):
    """A migration that the database has; what an older version of the code needs to know of one that it lacks."""

    __tablename__ = "schema_migrations"

    revision: Mapped[str] = mapped_column(primary_key=True)
    parent: Mapped[str | None]
    text: Mapped[str]
    phase: Mapped[str]
    # Of a contract step: the revision from which on no code uses any more what it removes; None: its own.
    unused_since: Mapped[str | None]
    applied_at: Mapped[datetime] = mapped_column(server_default=func.clock_timestamp())
    actor: Mapped[str]
    door: Mapped[str]
    host: Mapped[str]


class Server(Base):
    """A process that serves, and the revision that its code was built for; it says every few seconds that it lives."""

    __tablename__ = "servers"

    id: Mapped[UUID] = mapped_column(primary_key=True, default=uuid7)
    revision: Mapped[str]
    host: Mapped[str]
    pid: Mapped[int]
    started_at: Mapped[datetime] = mapped_column(server_default=func.now())
    seen_at: Mapped[datetime] = mapped_column(server_default=func.now())
