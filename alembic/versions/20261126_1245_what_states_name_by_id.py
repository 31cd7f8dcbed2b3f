"""What a state names is found by its id, whatever it is called by now; roles have one for that."""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision: str = "e15b7c40d9a3"
down_revision: str | None = "c93f5e1a7d20"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None
phase: str = "expand"
accepted = {
    "create-index": "before the first release, no state names many",
    "volatile-default": "there are few roles",
    "drop-index": "before the first release, no state names many",
}


def upgrade() -> None:
    """Go forward."""
    op.add_column("roles", sa.Column("id", sa.Uuid(), server_default=sa.text("gen_random_uuid()"), nullable=False))
    op.execute(
        "UPDATE ownerships SET target_id = roles.id FROM roles WHERE kind = 'role' AND ownerships.name = roles.name "
        "AND (made_at IS NULL OR made_at = roles.created_at)"
    )
    op.create_index("ix_ownerships_target_id", "ownerships", ["target_id"])
    op.drop_index("ix_ownerships_kind_name", table_name="ownerships")


def downgrade() -> None:
    """Go back."""
    op.create_index("ix_ownerships_kind_name", "ownerships", ["kind", "name"])
    op.drop_index("ix_ownerships_target_id", table_name="ownerships")
    op.execute("UPDATE ownerships SET target_id = NULL WHERE kind = 'role'")
    op.drop_column("roles", "id")
