"""The audit log's tables: the entries, and the chains that they hang on."""

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import ARRAY, BigInteger, Index, Uuid, func, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column

from api.core.ids import uuid7
from api.database import Base


class AuditEntry(Base):
    """Who did what to what, by which door; only ever inserted. No foreign keys: entries outlive what they name."""

    __tablename__ = "audit_entries"
    __table_args__ = (
        Index("ix_audit_entries_at_id", "at", "id"),
        # The runs of migrations, which are few among millions.
        Index("ix_audit_entries_schema", "at", "id", postgresql_where=text("target = 'schema'")),
        # For what the log is asked; an entry stands in as few of them as it can.
        Index("ix_audit_entries_user", "actor_user_id", "at", "id", postgresql_where=text("actor_user_id IS NOT NULL")),
        Index("ix_audit_entries_actor", "actor", "at", "id", postgresql_where=text("actor_user_id IS NULL")),
        Index("ix_audit_entries_action", "action", "at", "id"),
        Index("ix_audit_entries_target_id", "target_id", "at", "id", postgresql_where=text("target_id IS NOT NULL")),
        Index("ix_audit_entries_not_done", "at", "id", postgresql_where=text("outcome <> 'done'")),
        Index("ix_audit_entries_request", "request_id", "at", "id", postgresql_where=text("request_id <> ''")),
        # Of few values each: what is rare is found by the parts of the table that have it, and what is not, anywhere.
        Index(
            "ix_audit_entries_kind",
            "door",
            "target",
            postgresql_using="brin",
            postgresql_with={"pages_per_range": 4, "autosummarize": True},
        ),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True, default=uuid7)
    at: Mapped[datetime] = mapped_column(server_default=func.now())
    actor: Mapped[str]
    actor_user_id: Mapped[UUID | None]
    api_key_id: Mapped[UUID | None]
    door: Mapped[str]
    action: Mapped[str]
    target: Mapped[str]
    target_id: Mapped[UUID | None]
    outcome: Mapped[str] = mapped_column(server_default="done")
    detail: Mapped[dict[str, Any]] = mapped_column(JSONB)
    request_id: Mapped[str]


class AuditLink(Base):
    """What one statement has written into the log, chained to what was written before in the same lane.

    Written by a trigger of the database's, for whoever inserts entries by whatever way.
    """

    __tablename__ = "audit_links"

    lane: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    n: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    entries: Mapped[list[UUID]] = mapped_column(ARRAY(Uuid))
    digests: Mapped[bytes]
    hash: Mapped[bytes]
