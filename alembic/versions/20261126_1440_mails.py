"""Mails about accounts: queued, sent, and what their links are good for."""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision: str = "7d2f0a9c4b61"
down_revision: str | None = "a41d8e07b6c2"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None
phase: str = "expand"


def upgrade() -> None:
    """Go forward."""
    op.create_table(
        "mails",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("address", sa.Text(), nullable=False),
        sa.Column("minute", sa.Integer(), nullable=False),
        sa.Column("user_id", sa.Uuid(), nullable=True),
        sa.Column("detail", postgresql.JSONB(), server_default=sa.text("'{}'::jsonb"), nullable=False),
        sa.Column("request_id", sa.Text(), server_default="", nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("due_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=True),
        sa.Column("attempts", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("error", sa.Text(), server_default="", nullable=False),
        sa.Column("sent_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("used_at", sa.DateTime(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name=op.f("fk_mails_user_id_users"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_mails")),
    )
    op.create_index(
        "ix_mails_one_a_minute",
        "mails",
        ["kind", "address", "minute"],
        unique=True,
        postgresql_where=sa.text("kind <> 'change'"),
    )
    op.create_index(
        "ix_mails_one_change_a_minute",
        "mails",
        ["user_id", "address", "minute"],
        unique=True,
        postgresql_where=sa.text("kind = 'change'"),
    )
    op.create_index("ix_mails_created_at", "mails", ["created_at"])
    op.create_index("ix_mails_due_at", "mails", ["due_at"], postgresql_where=sa.text("due_at IS NOT NULL"))
    op.create_index(op.f("ix_mails_user_id"), "mails", ["user_id"])
    given_up = sa.text("due_at IS NULL AND sent_at IS NULL AND error <> ''")
    op.create_index("ix_mails_given_up", "mails", ["id"], postgresql_where=given_up)


def downgrade() -> None:
    """Go back."""
    op.drop_table("mails")
