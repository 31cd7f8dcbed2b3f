"""service accounts and API keys."""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

SEARCH_WORDS = (
    "to_tsvector('simple'::regconfig, "
    "(translate(COALESCE(email, name), '@._+-'::text, '     '::text) || ' '::text) || full_name)"
)
SEARCH_WORDS_BEFORE = (
    "to_tsvector('simple'::regconfig, (translate(email, '@._+-'::text, '     '::text) || ' '::text) || full_name)"
)
CHECKS = {
    "person": "(kind = 'person') = (email IS NOT NULL)",
    "service": "(kind = 'service') = (name IS NOT NULL)",
    "power": "kind = 'person' OR (password_hash IS NULL AND NOT is_superuser)",
}

revision: str = "4fc082e43f86"
down_revision: str | None = "5fdf5e2dd047"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None
phase: str = "expand"


def upgrade() -> None:
    """Go forward."""
    op.create_table(
        "api_keys",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("user_id", sa.Uuid(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("digest", sa.LargeBinary(), nullable=False),
        sa.Column("scopes", postgresql.ARRAY(sa.Text()), nullable=False),
        sa.Column("networks", postgresql.ARRAY(sa.Text()), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("last_used_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("last_used_address", sa.Text(), nullable=True),
        sa.Column("successor_id", sa.Uuid(), nullable=True),
        sa.Column("revoked_at", sa.DateTime(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name=op.f("fk_api_keys_user_id_users"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_api_keys")),
    )
    op.create_index("ix_api_keys_created_at_id", "api_keys", ["created_at", "id"], unique=False)
    op.create_index("ix_api_keys_user_id_created_at_id", "api_keys", ["user_id", "created_at", "id"], unique=False)
    op.add_column("users", sa.Column("kind", sa.Text(), server_default="person", nullable=False))
    op.add_column("users", sa.Column("name", sa.Text(collation="C"), nullable=True))
    op.alter_column("users", "email", existing_type=sa.TEXT(collation="C"), nullable=True)
    op.drop_index(op.f("ix_users_search"), table_name="users", postgresql_using="gin")
    op.create_index("ix_users_search", "users", [sa.literal_column(SEARCH_WORDS)], unique=False, postgresql_using="gin")
    op.create_unique_constraint(op.f("uq_users_name"), "users", ["name"])
    for name, condition in CHECKS.items():
        op.create_check_constraint(op.f(f"ck_users_{name}"), "users", condition)


def downgrade() -> None:
    """Go back; service accounts go, with what is theirs: before, there was no place for them."""
    op.execute("DELETE FROM users WHERE kind = 'service'")
    for name in CHECKS:
        op.drop_constraint(op.f(f"ck_users_{name}"), "users", type_="check")
    op.drop_constraint(op.f("uq_users_name"), "users", type_="unique")
    op.drop_index("ix_users_search", table_name="users", postgresql_using="gin")
    op.create_index(
        op.f("ix_users_search"), "users", [sa.literal_column(SEARCH_WORDS_BEFORE)], unique=False, postgresql_using="gin"
    )
    op.alter_column("users", "email", existing_type=sa.TEXT(collation="C"), nullable=False)
    op.drop_column("users", "name")
    op.drop_column("users", "kind")
    op.drop_index("ix_api_keys_user_id_created_at_id", table_name="api_keys")
    op.drop_index("ix_api_keys_created_at_id", table_name="api_keys")
    op.drop_table("api_keys")
