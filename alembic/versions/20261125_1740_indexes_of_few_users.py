"""Indexes of the few users whom a filter leaves."""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision: str = "b7d41c0e92aa"
down_revision: str | None = "64aa6e514c97"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None
phase: str = "expand"
accepted = {"create-index": "before the first release, nobody has many users"}

INDEXES = {
    "ix_users_every_superuser": (["created_at", "id"], "is_superuser"),
    "ix_users_inactive": (["created_at", "id"], "NOT is_active"),
    "ix_users_services": (["created_at", "id"], "kind = 'service'"),
    "ix_users_services_by_name": (["name", "id"], "kind = 'service'"),
}


def upgrade() -> None:
    """Go forward."""
    for name, (columns, where) in INDEXES.items():
        op.create_index(name, "users", columns, postgresql_where=sa.text(where))


def downgrade() -> None:
    """Go back."""
    for name in INDEXES:
        op.drop_index(name, table_name="users")
