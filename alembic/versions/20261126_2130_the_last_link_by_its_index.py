"""The last link of a chain is found by its index, however few there were when PostgreSQL made its plan.

A connection keeps its plans. One made while there were a few links read them all, and went on doing so until autovacuum
came by, with a hundred thousand of them.
"""

from collections.abc import Sequence

from alembic import op

revision: str = "5d1e8b0f7c26"
down_revision: str | None = "7d2f0a9c4b61"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None
phase: str = "expand"


def upgrade() -> None:
    """Go forward."""
    op.execute("ALTER FUNCTION link_audit_entries() SET enable_seqscan = off")


def downgrade() -> None:
    """Go back."""
    op.execute("ALTER FUNCTION link_audit_entries() RESET enable_seqscan")
