"""The tables of second factors, of recovery codes, and of logins that wait for one of them."""

from datetime import datetime
from uuid import UUID

from sqlalchemy import BigInteger, CheckConstraint, ForeignKey, LargeBinary, func, text
from sqlalchemy.orm import Mapped, mapped_column

from api.core.ids import uuid7
from api.database import Base


class SecondFactor(Base):
    """What somebody has besides their password: an app (RFC 6238), or a passkey, which can do without the password."""

    __tablename__ = "second_factors"
    __table_args__ = (
        CheckConstraint(
            "CASE kind WHEN 'totp' THEN sealed IS NOT NULL WHEN 'passkey' THEN confirmed_at IS NULL "
            "OR (credential_id IS NOT NULL AND public_key IS NOT NULL) ELSE false END",
            name="kind",
        ),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True, default=uuid7)
    user_id: Mapped[UUID] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"), index=True)
    kind: Mapped[str]
    name: Mapped[str]
    # An app's secret, encrypted with a key derived from APICTL_SECRET_KEY.
    sealed: Mapped[bytes | None] = mapped_column(LargeBinary)
    # A passkey's name for itself, its public key (COSE), and how often it says that it was used.
    credential_id: Mapped[bytes | None] = mapped_column(LargeBinary, unique=True)
    public_key: Mapped[bytes | None] = mapped_column(LargeBinary)
    sign_count: Mapped[int] = mapped_column(BigInteger, server_default=text("0"))
    # The time step of the last password that was taken, or when the last challenge was made that a passkey answered
    # (microseconds since 1970): neither is taken twice, nor an older one.
    last_step: Mapped[int | None] = mapped_column(BigInteger)
    # Wrong ones since the last right one, and when the last of them came.
    failures: Mapped[int] = mapped_column(server_default=text("0"))
    failed_at: Mapped[datetime | None]
    # None: its owner has not shown yet that it works, and nothing is asked of it.
    confirmed_at: Mapped[datetime | None]
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    last_used_at: Mapped[datetime | None]


class RecoveryCode(Base):
    """What somebody noted on paper for the day when their second factor is gone; good once."""

    __tablename__ = "recovery_codes"

    digest: Mapped[bytes] = mapped_column(LargeBinary, primary_key=True)
    user_id: Mapped[UUID] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"), index=True)


class PendingLogin(Base):
    """A login whose password was right, and which waits for the second factor."""

    __tablename__ = "pending_logins"

    digest: Mapped[bytes] = mapped_column(LargeBinary, primary_key=True)
    user_id: Mapped[UUID] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"), index=True)
    # The hash that was verified: another password since then ends the login.
    verified_hash: Mapped[str]
    scope: Mapped[str] = mapped_column(server_default="")
    attempts: Mapped[int] = mapped_column(server_default=text("0"))
    expires_at: Mapped[datetime] = mapped_column(index=True)
