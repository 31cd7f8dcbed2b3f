"""The table of users."""

from datetime import datetime
from uuid import UUID

from sqlalchemy import CheckConstraint, ColumnElement, Index, Text, func, literal_column, text
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.ext.hybrid import hybrid_property
from sqlalchemy.orm import Mapped, mapped_column

from api.core.ids import uuid7
from api.database import Base

# Every word of the address and of the name, each findable by its beginning. The configuration is named, because an
# index takes immutable expressions only. Written as PostgreSQL prints it back, so that Alembic sees no difference.
SEARCH_WORDS: ColumnElement[str] = literal_column(
    "to_tsvector('simple'::regconfig, "
    "(translate(COALESCE(email, name), '@._+-'::text, '     '::text) || ' '::text) || full_name)"
)


class User(Base):
    """Somebody with an account: a person, who has an address, or a machine's service account, which has a name.

    `email` is stored in its one canonical form.
    """

    __tablename__ = "users"
    __table_args__ = (
        CheckConstraint("(kind = 'person') = (email IS NOT NULL)", name="person"),
        CheckConstraint("(kind = 'service') = (name IS NOT NULL)", name="service"),
        CheckConstraint("kind = 'person' OR (password_hash IS NULL AND NOT is_superuser)", name="power"),
        Index("ix_users_created_at_id", "created_at", "id"),
        Index("ix_users_updated_at_id", "updated_at", "id"),
        Index("ix_users_superusers", "id", postgresql_where=text("is_superuser AND is_active")),
        # What a filter leaves few of is found without a look at all the others.
        Index("ix_users_every_superuser", "created_at", "id", postgresql_where=text("is_superuser")),
        Index("ix_users_inactive", "created_at", "id", postgresql_where=text("NOT is_active")),
        Index("ix_users_services", "created_at", "id", postgresql_where=text("kind = 'service'")),
        Index("ix_users_services_by_name", "name", "id", postgresql_where=text("kind = 'service'")),
        Index("ix_users_roles", "roles", postgresql_using="gin"),
        Index("ix_users_search", SEARCH_WORDS, postgresql_using="gin"),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True, default=uuid7)
    kind: Mapped[str] = mapped_column(server_default="person")
    # Collation C: the same order, and the same idea of equal, on every server.
    email: Mapped[str | None] = mapped_column(Text(collation="C"), unique=True)
    name: Mapped[str | None] = mapped_column(Text(collation="C"), unique=True)
    full_name: Mapped[str] = mapped_column(server_default="")
    password_hash: Mapped[str | None]
    is_active: Mapped[bool] = mapped_column(server_default=text("true"))
    is_superuser: Mapped[bool] = mapped_column(server_default=text("false"))
    # Names of roles. Not a table of its own: whoever reads a user reads their roles, and the version covers them.
    roles: Mapped[list[str]] = mapped_column(ARRAY(Text), server_default=text("'{}'"))
    email_verified_at: Mapped[datetime | None]
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    updated_at: Mapped[datetime] = mapped_column(server_default=func.now())
    last_login_at: Mapped[datetime | None]
    version: Mapped[int] = mapped_column(server_default=text("1"))

    @hybrid_property
    def handle(self) -> str:
        """What the user is called by everybody: the address of a person, the name of a service account."""
        return self.email or self.name or ""

    @handle.inplace.expression
    @classmethod
    def _handle(cls) -> ColumnElement[str]:
        return func.coalesce(cls.email, cls.name)
