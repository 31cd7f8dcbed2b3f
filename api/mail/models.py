"""The table of mails: what is to be sent, and what the link in it is good for."""

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import ForeignKey, Index, func, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column

from api.core.ids import uuid7
from api.database import Base


class Mail(Base):
    """A mail that somebody asked for, from then until its link can have no meaning any more.

    No link is in it, and no digest of one: whoever has the row, the account and the secret key can make it (`links`).
    """

    __tablename__ = "mails"
    __table_args__ = (
        # One of a kind to an address in a minute, also between two at once; of a change, one for each account: whoever
        # names the address that somebody else is about to have must not have the only mail.
        Index(
            "ix_mails_one_a_minute", "kind", "address", "minute", unique=True, postgresql_where=text("kind <> 'change'")
        ),
        Index(
            "ix_mails_one_change_a_minute",
            *("user_id", "address", "minute"),
            unique=True,
            postgresql_where=text("kind = 'change'"),
        ),
        Index("ix_mails_due_at", "due_at", postgresql_where=text("due_at IS NOT NULL")),
        Index("ix_mails_created_at", "created_at"),
        Index(
            "ix_mails_given_up",
            "id",
            postgresql_where=text("due_at IS NULL AND sent_at IS NULL AND error <> ''"),
        ),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True, default=uuid7)
    kind: Mapped[str]
    # Canonical, as in the table of users.
    address: Mapped[str]
    minute: Mapped[int]
    # Whose account it is about. Of what nobody with an account asked for, the worker looks whether there is one.
    user_id: Mapped[UUID | None] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"), index=True)
    # What an invitation promises, and who promised it; where somebody asked from; in which session.
    detail: Mapped[dict[str, Any]] = mapped_column(JSONB, server_default=text("'{}'::jsonb"))
    request_id: Mapped[str] = mapped_column(server_default="")
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    # When a worker may take it; null: it was sent, or given up, or is for nobody, or its link was ended.
    due_at: Mapped[datetime | None] = mapped_column(server_default=func.now())
    attempts: Mapped[int] = mapped_column(server_default=text("0"))
    error: Mapped[str] = mapped_column(server_default="")
    sent_at: Mapped[datetime | None]
    # The link's end, and its use.
    expires_at: Mapped[datetime | None]
    used_at: Mapped[datetime | None]
