"""The table of device authorisations."""

from datetime import datetime
from uuid import UUID

from sqlalchemy import ForeignKey, Index, LargeBinary, func, text
from sqlalchemy.orm import Mapped, mapped_column

from api.core.ids import uuid7
from api.database import Base


class DeviceAuthorization(Base):
    """A device that waits until somebody lets it act for them (RFC 8628); for some minutes, then it is removed."""

    __tablename__ = "device_authorizations"
    __table_args__ = (Index("ix_device_authorizations_expires_at", "expires_at"),)

    id: Mapped[UUID] = mapped_column(primary_key=True, default=uuid7)
    # Of the device's own code; nothing plain is stored of it.
    digest: Mapped[bytes] = mapped_column(LargeBinary, unique=True)
    # What the person types, without its hyphen.
    user_code: Mapped[str] = mapped_column(unique=True)
    # What the device asked for; empty: everything that its user may do.
    scope: Mapped[str] = mapped_column(server_default="")
    user_agent: Mapped[str] = mapped_column(server_default="")
    address: Mapped[str] = mapped_column(server_default="")
    # Seconds that the device has to leave between two questions.
    interval: Mapped[int] = mapped_column(server_default=text("5"))
    polled_at: Mapped[datetime | None]
    # Who decided, and how.
    user_id: Mapped[UUID | None] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"), index=True)
    approved: Mapped[bool | None]
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    expires_at: Mapped[datetime]
