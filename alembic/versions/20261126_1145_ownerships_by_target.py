"""What a state names is found by its id, whatever it is called by now."""

from collections.abc import Sequence

from alembic import op

revision: str = "e15b7c40d9a3"
down_revision: str | None = "c93f5e1a7d20"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None
phase: str = "expand"
accepted = {"create-index": "before the first release, no state names many"}


def upgrade() -> None:
    """Go forward."""
    op.create_index("ix_ownerships_target_id", "ownerships", ["target_id"])


def downgrade() -> None:
    """Go back."""
    op.drop_index("ix_ownerships_target_id", table_name="ownerships")
