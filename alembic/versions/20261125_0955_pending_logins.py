"""A login that waits for its second factor is a pending login: "challenge" is what a passkey signs."""

from collections.abc import Sequence

from alembic import op

revision: str = "5d0c3a9be147"
down_revision: str | None = "fdba7d520767"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None
phase: str = "contract"

INDEXES = ("ix_{}_expires_at", "ix_{}_user_id")


def upgrade() -> None:
    """Rename the table, and what is named after it."""
    rename("challenges", "pending_logins")


def downgrade() -> None:
    """Take the old name again."""
    rename("pending_logins", "challenges")


def rename(old: str, new: str) -> None:
    """Rename the table, its indexes and its constraints."""
    op.rename_table(old, new)
    for index in INDEXES:
        op.execute(f"ALTER INDEX {index.format(old)} RENAME TO {index.format(new)}")
    for constraint in ("pk_{}", "fk_{}_user_id_users"):
        op.execute(f"ALTER TABLE {new} RENAME CONSTRAINT {constraint.format(old)} TO {constraint.format(new)}")
