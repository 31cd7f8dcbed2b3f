"""What was done to the schema, and who relies on it."""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision: str = "64aa6e514c97"
down_revision: str | None = "5d0c3a9be147"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None
phase: str = "expand"
accepted = {"create-index": "before the first release, nobody has an audit log that is long"}


def upgrade() -> None:
    """Go forward."""
    op.create_table(
        "schema_migrations",
        sa.Column("revision", sa.Text(), nullable=False),
        sa.Column("parent", sa.Text(), nullable=True),
        sa.Column("text", sa.Text(), nullable=False),
        sa.Column("phase", sa.Text(), nullable=False),
        sa.Column("unused_since", sa.Text(), nullable=True),
        sa.Column(
            "applied_at", sa.DateTime(timezone=True), server_default=sa.text("clock_timestamp()"), nullable=False
        ),
        sa.Column("actor", sa.Text(), nullable=False),
        sa.Column("door", sa.Text(), nullable=False),
        sa.Column("host", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("revision", name=op.f("pk_schema_migrations")),
    )
    op.create_table(
        "servers",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("revision", sa.Text(), nullable=False),
        sa.Column("host", sa.Text(), nullable=False),
        sa.Column("pid", sa.Integer(), nullable=False),
        sa.Column("started_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("seen_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_servers")),
    )
    op.create_index(
        "ix_audit_entries_schema",
        "audit_entries",
        ["at", "id"],
        unique=False,
        postgresql_where=sa.text("target = 'schema'"),
    )


def downgrade() -> None:
    """Go back."""
    op.drop_index("ix_audit_entries_schema", table_name="audit_entries", postgresql_where=sa.text("target = 'schema'"))
    op.drop_table("servers")
    op.drop_table("schema_migrations")
