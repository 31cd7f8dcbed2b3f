"""The table of what was taken of whose attempts."""

from datetime import datetime

from sqlalchemy import LargeBinary
from sqlalchemy.orm import Mapped, mapped_column

from api.database import Base


class ThrottleEntry(Base):
    """A bucket of attempts that is not full, or a network that an account has logged in from.

    Unlogged: what is written here waits for no disk. A crash forgets it, which lets a few more guesses pass.
    """

    __tablename__ = "throttles"
    __table_args__ = ({"prefixes": ["UNLOGGED"]},)

    # A digest of what it is about: addresses that were made up, or mistyped, are nobody's to read.
    key: Mapped[bytes] = mapped_column(LargeBinary, primary_key=True)
    # When the bucket is full again, or the network forgotten; from then on the row says nothing.
    until: Mapped[datetime] = mapped_column(index=True)
