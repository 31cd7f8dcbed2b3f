"""The table of requests that are done once."""

from datetime import datetime

from sqlalchemy import Index, LargeBinary, func
from sqlalchemy.orm import Mapped, mapped_column

from api.database import Base


class IdempotencyKey(Base):
    """A request or command that was done under a key of its sender's; kept for a day, then it is removed."""

    __tablename__ = "idempotency_keys"
    __table_args__ = (Index("ix_idempotency_keys_expires_at", "expires_at"),)

    # Of the key, and of whose it is.
    digest: Mapped[bytes] = mapped_column(LargeBinary, primary_key=True)
    # Of what was asked for: the same key with something else is a mistake.
    fingerprint: Mapped[bytes] = mapped_column(LargeBinary)
    # What was answered, which may be a new API key: sealed by the sender's key, which is not in this table.
    answer: Mapped[bytes] = mapped_column(LargeBinary)
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    expires_at: Mapped[datetime]
