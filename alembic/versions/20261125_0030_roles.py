"""roles: named sets of scopes, and who has them."""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision: str = "5fdf5e2dd047"
down_revision: str | None = "da6e59164b71"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None
phase: str = "expand"


def upgrade() -> None:
    """Go forward."""
    op.create_table(
        "roles",
        sa.Column("name", sa.Text(collation="C"), nullable=False),
        sa.Column("description", sa.Text(), server_default="", nullable=False),
        sa.Column("scopes", sa.ARRAY(sa.Text()), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("version", sa.Integer(), server_default=sa.text("1"), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_roles")),
    )
    op.add_column("users", sa.Column("roles", sa.ARRAY(sa.Text()), server_default=sa.text("'{}'"), nullable=False))
    op.create_index("ix_users_roles", "users", ["roles"], unique=False, postgresql_using="gin")


def downgrade() -> None:
    """Go back."""
    op.drop_index("ix_users_roles", table_name="users", postgresql_using="gin")
    op.drop_column("users", "roles")
    op.drop_table("roles")
