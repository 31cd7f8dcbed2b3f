"""passkeys."""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision: str = "fdba7d520767"
down_revision: str | None = "30f3ef691ef9"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None
phase: str = "expand"

KINDS = (
    "CASE kind WHEN 'totp' THEN sealed IS NOT NULL WHEN 'passkey' THEN confirmed_at IS NULL "
    "OR (credential_id IS NOT NULL AND public_key IS NOT NULL) ELSE false END"
)


def upgrade() -> None:
    """Go forward."""
    op.add_column("second_factors", sa.Column("credential_id", sa.LargeBinary(), nullable=True))
    op.add_column("second_factors", sa.Column("public_key", sa.LargeBinary(), nullable=True))
    op.add_column(
        "second_factors", sa.Column("sign_count", sa.BigInteger(), server_default=sa.text("0"), nullable=False)
    )
    op.alter_column("second_factors", "sealed", existing_type=postgresql.BYTEA(), nullable=True)
    op.create_check_constraint(op.f("ck_second_factors_kind"), "second_factors", KINDS)
    op.create_unique_constraint(op.f("uq_second_factors_credential_id"), "second_factors", ["credential_id"])


def downgrade() -> None:
    """Go back."""
    op.execute("DELETE FROM second_factors WHERE kind = 'passkey'")
    op.drop_constraint(op.f("uq_second_factors_credential_id"), "second_factors", type_="unique")
    op.drop_constraint(op.f("ck_second_factors_kind"), "second_factors", type_="check")
    op.alter_column("second_factors", "sealed", existing_type=postgresql.BYTEA(), nullable=False)
    op.drop_column("second_factors", "sign_count")
    op.drop_column("second_factors", "public_key")
    op.drop_column("second_factors", "credential_id")
