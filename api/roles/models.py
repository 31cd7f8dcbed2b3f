"""The table of roles. Who has one is written in the user's own row: `users.roles`."""

from datetime import datetime

from sqlalchemy import ARRAY, Text, func, text
from sqlalchemy.orm import Mapped, mapped_column

from api.database import Base


class Role(Base):
    """A named set of scopes."""

    __tablename__ = "roles"

    name: Mapped[str] = mapped_column(Text(collation="C"), primary_key=True)
    description: Mapped[str] = mapped_column(server_default="")
    scopes: Mapped[list[str]] = mapped_column(ARRAY(Text))
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    updated_at: Mapped[datetime] = mapped_column(server_default=func.now())
    version: Mapped[int] = mapped_column(server_default=text("1"))
