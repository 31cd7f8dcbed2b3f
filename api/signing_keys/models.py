"""The table of signing keys."""

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import CheckConstraint, LargeBinary, func
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column

from api.core.ids import uuid7
from api.database import Base


class SigningKeyRow(Base):
    """A key that signs access tokens, from its time on, until the next one does; it verifies until it is retired."""

    __tablename__ = "signing_keys"
    __table_args__ = (CheckConstraint("(retired_at IS NULL) = (sealed IS NOT NULL)", name="sealed"),)

    # Its text is the `kid` of tokens and JWKs.
    id: Mapped[UUID] = mapped_column(primary_key=True, default=uuid7)
    # Counted from 1; of two that sign from the same time on, the later one does.
    number: Mapped[int] = mapped_column(unique=True)
    algorithm: Mapped[str]
    public_jwk: Mapped[dict[str, Any] | None] = mapped_column(JSONB(none_as_null=True))
    # Encrypted with a key derived from APICTL_SECRET_KEY; destroyed when the key is retired.
    sealed: Mapped[bytes | None] = mapped_column(LargeBinary)
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    active_from: Mapped[datetime] = mapped_column(server_default=func.now())
    retired_at: Mapped[datetime | None]
