"""What guesses are counted in."""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision: str = "a41d8e07b6c2"
down_revision: str | None = "f4a8d2c7b316"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None
phase: str = "expand"


def upgrade() -> None:
    """Go forward."""
    op.create_table(
        "throttles",
        sa.Column("key", sa.LargeBinary(), nullable=False),
        sa.Column("until", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("key", name=op.f("pk_throttles")),
        # What is written here waits for no disk, and a crash forgets it.
        prefixes=["UNLOGGED"],
    )
    op.create_index("ix_throttles_until", "throttles", ["until"])


def downgrade() -> None:
    """Go back."""
    op.drop_table("throttles")
