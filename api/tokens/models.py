"""The table of sessions: what every access and refresh token hangs on."""

from datetime import datetime
from uuid import UUID

from sqlalchemy import ARRAY, ForeignKey, Index, Text, func, text
from sqlalchemy.orm import Mapped, mapped_column

from api.core.ids import uuid7
from api.database import Base


class Session(Base):
    """One login, and the family of refresh tokens that descends from it (RFC 9700, section 4.14).

    No token is stored, not even as a digest: a refresh token is an HMAC over the session's id and the number of its
    rotation, so `rotation` is the whole state of the family.
    """

    __tablename__ = "sessions"
    __table_args__ = (
        Index("ix_sessions_user_id_created_at_id", "user_id", "created_at", "id"),
        Index("ix_sessions_created_at_id", "created_at", "id"),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True, default=uuid7)
    user_id: Mapped[UUID] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"))
    # None: everything that the owner may do, as that changes.
    scopes: Mapped[list[str] | None] = mapped_column(ARRAY(Text))
    label: Mapped[str] = mapped_column(server_default="")
    user_agent: Mapped[str] = mapped_column(server_default="")
    address: Mapped[str] = mapped_column(server_default="")
    rotation: Mapped[int] = mapped_column(server_default=text("0"))
    rotated_at: Mapped[datetime | None]
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    last_used_at: Mapped[datetime] = mapped_column(server_default=func.now())
    expires_at: Mapped[datetime]
    revoked_at: Mapped[datetime | None]
    revoked_because: Mapped[str | None]
