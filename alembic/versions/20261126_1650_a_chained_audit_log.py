"""An audit log that tells when somebody has changed it, and can be searched."""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision: str = "f4a8d2c7b316"
down_revision: str | None = "a70c4f29e86b"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None
phase: str = "expand"
accepted = {
    "create-index": "before the first release, nobody has an audit log that is long",
    "drop-index": "before the first release, nobody has an audit log that is long",
}

# By name: its columns, and which entries it has.
INDEXES = {
    "user": (["actor_user_id", "at", "id"], "actor_user_id IS NOT NULL"),
    "actor": (["actor", "at", "id"], "actor_user_id IS NULL"),
    "action": (["action", "at", "id"], None),
    "target_id": (["target_id", "at", "id"], "target_id IS NOT NULL"),
    "not_done": (["at", "id"], "outcome <> 'done'"),
    "request": (["request_id", "at", "id"], "request_id <> ''"),
}
# What api/audit/chain.py computes too. A binary array tells every value from every other, and hangs on no setting of
# whoever inserts: neither on their time zone, nor on their encoding.
DIGEST = """
    sha256(array_send(ARRAY[
        uuid_send(id), timestamptz_send(at), convert_to(actor, 'UTF8'), uuid_send(actor_user_id), uuid_send(api_key_id),
        convert_to(door, 'UTF8'), convert_to(action, 'UTF8'), convert_to(target, 'UTF8'), uuid_send(target_id),
        convert_to(outcome, 'UTF8'), convert_to(detail::text, 'UTF8'), convert_to(request_id, 'UTF8')
    ]))
"""
# A lane is the transaction's that has its lock, until it ends: so its last link is there to be read, and nobody waits,
# because whoever finds one taken takes the next one. The tables are named with their schema: whoever inserts may look
# for tables elsewhere.
LINK = f"""
DO $do$ BEGIN EXECUTE replace($create$
CREATE FUNCTION OURS.link_audit_entries() RETURNS trigger LANGUAGE plpgsql AS $function$
DECLARE
    chain integer := pg_backend_pid() % 16;
BEGIN
    WHILE NOT pg_try_advisory_xact_lock({0x61756469}, chain) LOOP
        chain := chain + 1;
    END LOOP;
    INSERT INTO OURS.audit_links (lane, n, entries, digests, hash)
    SELECT chain, place, ids, sums,
           sha256(coalesce(last.hash, '') || int4send(chain) || int8send(place) || array_send(ids) || sums)
    FROM (SELECT array_agg(id) AS ids, string_agg({DIGEST}, '') AS sums FROM added HAVING count(*) > 0) AS new
    LEFT JOIN LATERAL (SELECT n, hash FROM OURS.audit_links WHERE lane = chain ORDER BY n DESC LIMIT 1) AS last ON true
    CROSS JOIN LATERAL (SELECT coalesce(last.n, 0) + 1) AS following (place)
    ON CONFLICT DO NOTHING;
    RETURN NULL;
END
$function$
$create$, 'OURS', quote_ident(current_schema())); END $do$
"""  # noqa: S608 - text of ours
REFUSE = """
CREATE FUNCTION refuse_audit_change() RETURNS trigger LANGUAGE plpgsql AS $function$
BEGIN
    RAISE EXCEPTION '% is only ever added to', TG_TABLE_NAME USING ERRCODE = 'insufficient_privilege';
END
$function$
"""
# Those that are there already, a thousand a link. Nobody adds any meanwhile: the trigger's making has locked the table.
LINK_OLD = f"""
DO $do$
DECLARE
    place bigint := 0;
    last_hash bytea := '';
    last_id uuid;
    ids uuid[];
    sums bytea;
BEGIN
    LOOP
        SELECT array_agg(id ORDER BY id), string_agg(digest, '' ORDER BY id) INTO ids, sums
        FROM (
            SELECT id, {DIGEST} AS digest FROM audit_entries
            WHERE last_id IS NULL OR id > last_id ORDER BY id LIMIT 1000
        ) AS part;
        EXIT WHEN ids IS NULL;
        place := place + 1;
        last_hash := sha256(last_hash || int4send(0) || int8send(place) || array_send(ids) || sums);
        INSERT INTO audit_links (lane, n, entries, digests, hash) VALUES (0, place, ids, sums, last_hash);
        last_id := ids[cardinality(ids)];
    END LOOP;
END $do$
"""  # noqa: S608 - text of ours


def upgrade() -> None:
    """Go forward."""
    op.add_column("audit_entries", sa.Column("api_key_id", sa.Uuid(), nullable=True))
    op.add_column("audit_entries", sa.Column("outcome", sa.Text(), server_default="done", nullable=False))
    for name, (columns, where) in INDEXES.items():
        condition = None if where is None else sa.text(where)
        op.create_index(f"ix_audit_entries_{name}", "audit_entries", columns, postgresql_where=condition)
    op.create_index(
        "ix_audit_entries_kind",
        "audit_entries",
        ["door", "target"],
        postgresql_using="brin",
        postgresql_with={"pages_per_range": 4, "autosummarize": True},
    )
    op.create_table(
        "audit_links",
        sa.Column("lane", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("n", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("entries", postgresql.ARRAY(sa.Uuid()), nullable=False),
        sa.Column("digests", sa.LargeBinary(), nullable=False),
        sa.Column("hash", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("lane", "n", name=op.f("pk_audit_links")),
    )
    # What is random is not worth an attempt to make it shorter.
    for column in ("entries", "digests"):
        op.execute(f"ALTER TABLE audit_links ALTER COLUMN {column} SET STORAGE EXTERNAL")
    op.execute(LINK)
    op.execute(REFUSE)
    op.execute(
        "CREATE TRIGGER link_audit_entries AFTER INSERT ON audit_entries REFERENCING NEW TABLE AS added "
        "FOR EACH STATEMENT EXECUTE FUNCTION link_audit_entries()"
    )
    for table in ("audit_entries", "audit_links"):
        op.execute(
            f"CREATE TRIGGER refuse_audit_change BEFORE UPDATE OR DELETE OR TRUNCATE ON {table} "
            "FOR EACH STATEMENT EXECUTE FUNCTION refuse_audit_change()"
        )
    op.execute(LINK_OLD)


def downgrade() -> None:
    """Go back."""
    op.drop_table("audit_links")
    op.execute("DROP TRIGGER link_audit_entries ON audit_entries")
    op.execute("DROP TRIGGER refuse_audit_change ON audit_entries")
    op.execute("DROP FUNCTION link_audit_entries()")
    op.execute("DROP FUNCTION refuse_audit_change()")
    for name in ("kind", *reversed(INDEXES)):
        op.drop_index(f"ix_audit_entries_{name}", table_name="audit_entries")
    op.drop_column("audit_entries", "outcome")
    op.drop_column("audit_entries", "api_key_id")
