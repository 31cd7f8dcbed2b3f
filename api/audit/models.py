"""The table of audit entries."""

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Index, func, text
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
    )

    id: Mapped[UUID] = mapped_column(primary_key=True, default=uuid7)
    at: Mapped[datetime] = mapped_column(server_default=func.now())
    actor: Mapped[str]
    actor_user_id: Mapped[UUID | None]
    door: Mapped[str]
    action: Mapped[str]
    target: Mapped[str]
    target_id: Mapped[UUID | None]
    detail: Mapped[dict[str, Any]] = mapped_column(JSONB)
    request_id: Mapped[str]
