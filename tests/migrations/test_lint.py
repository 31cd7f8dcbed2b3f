"""What a new migration is told about what it would do to others."""

import pytest

from api.migrations.lint import look_at, removed
from api.migrations.revisions import chain
from tests.migrations.conftest import Source
from tests.migrations.test_runs import CONCURRENTLY
from tests.project.code import ROOT

# Before the first release nobody was in the way.
UNJUDGED = "5d0c3a9be147"


@pytest.mark.parametrize(
    ("up", "rules"),
    [
        ('op.add_column("users", sa.Column("x", sa.Text()))', []),
        ('op.add_column("users", sa.Column("x", sa.Text(), server_default="", nullable=False))', []),
        ('op.add_column("users", sa.Column("x", sa.Text(), nullable=False))', ["add-not-null"]),
        (
            'op.add_column("users", sa.Column("x", sa.Uuid(), server_default=sa.text("gen_random_uuid()")))',
            ["volatile-default"],
        ),
        (
            'op.add_column("users", sa.Column("x", sa.BigInteger(), sa.Identity(), nullable=False))',
            ["volatile-default"],
        ),
        ('op.create_index("ix_x", "users", ["email"])', ["create-index"]),
        ('op.create_index("ix_x", "users", ["email"], unique=True)', ["create-index"]),
        ('op.execute("CREATE INDEX IF NOT EXISTS ix_x ON public.users (email)")', ["create-index"]),
        ('op.create_index("ix_x", "users", ["email"], postgresql_concurrently=True)', ["concurrently"]),
        (CONCURRENTLY, []),
        ('op.alter_column("users", "full_name", nullable=False)', ["set-not-null"]),
        ('op.alter_column("users", "full_name", nullable=True)', []),
        ('op.alter_column("users", "full_name", type_=sa.LargeBinary())', ["change-type"]),
        ('op.create_check_constraint("ck_x", "users", "full_name <> \'\'")', ["add-constraint"]),
        ('op.create_check_constraint("ck_x", "users", "full_name <> \'\'", postgresql_not_valid=True)', []),
        ('op.create_foreign_key("fk_x", "sessions", "users", ["label"], ["email"])', ["add-constraint"]),
        ('op.create_unique_constraint("uq_x", "users", ["full_name"])', ["add-unique"]),
        ('op.execute("ALTER TABLE users ADD CONSTRAINT uq_x UNIQUE USING INDEX ix_x")', []),
        ('op.drop_column("users", "full_name")', ["drop-column"]),
        ('op.drop_table("users")', ["drop-table"]),
        ('op.alter_column("users", "full_name", new_column_name="x")', ["rename"]),
        ('op.rename_table("users", "people")', ["rename"]),
        ('op.execute("ALTER TABLE users RENAME CONSTRAINT a TO b")', []),
        ("op.execute(\"UPDATE users SET full_name = ''\")", ["backfill"]),
        ("op.execute(\"UPDATE users SET full_name = '' WHERE id IS NULL\")", []),
        ('op.execute("DELETE FROM sessions")', ["backfill"]),
        ('op.execute("ALTER TABLE IF EXISTS ONLY users ADD COLUMN IF NOT EXISTS x text NOT NULL")', ["add-not-null"]),
        ("op.execute(\"ALTER TABLE users ADD x text DEFAULT 'generated as '\")", []),
        ('op.execute("ALTER TABLE users ALTER full_name SET DATA TYPE bytea")', ["change-type"]),
        ('op.execute("ALTER TABLE users ALTER full_name SET NOT NULL")', ["set-not-null"]),
        (
            """op.execute("ALTER TABLE users VALIDATE CONSTRAINT ck_users_full_name_present")
    op.execute("ALTER TABLE users ALTER full_name SET NOT NULL")""",
            [],
        ),
        # Another check does not imply it.
        (
            """op.execute("ALTER TABLE users VALIDATE CONSTRAINT ck_users_email_present")
    op.execute("ALTER TABLE users ALTER full_name SET NOT NULL")""",
            ["set-not-null"],
        ),
        ('op.execute("ALTER TABLE users DROP IF EXISTS full_name")', ["drop-column"]),
        ('op.execute("ALTER TABLE users DROP CONSTRAINT ck_x")', []),
        ('op.execute("CREATE INDEX ON users (email)")', ["create-index"]),
        (
            'with op.get_context().autocommit_block(): op.execute("CREATE INDEX CONCURRENTLY ix_x ON users (email)")',
            ["repeatable"],
        ),
        (
            """with op.get_context().autocommit_block():
        op.create_index("ix_x", "users", ["email"], postgresql_concurrently=True, if_not_exists=True)""",
            ["repeatable"],
        ),
        (
            'with op.get_context().autocommit_block(): op.add_column("users", sa.Column("x", sa.Text()))',
            ["mixed"],
        ),
        # In a table that it makes, nobody works yet.
        ('op.create_table("x", sa.Column("y", sa.Text())); op.create_index("ix_y", "x", ["y"])', []),
        ("op.get_bind().execute(sa.text('SELECT 1')).one()", ["unreadable"]),
        ('op.execute("ALTER TABLE users ADD x text, ADD y numeric(1, 0) NOT NULL")', ["add-not-null"]),
        ("op.execute(\"ALTER TABLE users ADD x text DEFAULT 'a, DROP full_name'\")", []),
        ('op.execute("ALTER TABLE users ADD x uuid REFERENCES users (id)")', ["add-constraint"]),
        ('op.execute("ALTER TABLE users SET SCHEMA old")', ["rename"]),
        ('op.execute("TRUNCATE sessions")', ["truncate"]),
        ('op.execute("COMMIT")', ["ends-transaction"]),
    ],
)
def test_what_is_said(source: Source, up: str, rules: list[str]) -> None:
    source.add("test1", up, 'op.execute("SELECT 1")')
    found = look_at(chain()[-1])
    assert [finding.rule for finding in found] == rules
    for finding in found:
        assert "{" not in finding.message + finding.hint
        assert finding.hint


@pytest.mark.parametrize(
    ("statement", "rules"),
    [
        # Comments hide nothing, and quotes hold no SQL.
        ("\n ALTER TABLE users\n ADD COLUMN b int, -- it's new\n DROP COLUMN full_name\n", ["drop-column"]),
        ("/* hi; */ ALTER TABLE users /* -- */ DROP full_name", ["drop-column"]),
        ("SELECT 1; DROP TABLE users", ["drop-table"]),
        ("SELECT ';\n'';\nDROP TABLE users'", []),
        ("SELECT E'\\';\nDROP TABLE users;\n'", []),
        ("DO $$BEGIN\n PERFORM 1;\nDROP TABLE users;\nEND$$", []),
        ("DO $a$BEGIN PERFORM $$;$$; END$a$; DROP TABLE users", ["drop-table"]),
        ("SELECT '/*'; DROP TABLE users; SELECT '*/'", ["drop-table"]),
        ("ALTER TABLE users ADD x text DEFAULT $$, DROP full_name$$", []),
        ('ALTER TABLE users ADD "a, DROP b" text, ADD "--" text, DROP full_name', ["drop-column"]),
        ("SELECT 1; commit", ["ends-transaction"]),
        ("SELECT '\nCOMMIT'", []),
        # Constraints without a name, and of a column.
        ("ALTER TABLE users ADD FOREIGN KEY (a) REFERENCES b (id)", ["add-constraint"]),
        ("ALTER TABLE users ADD FOREIGN KEY (a) REFERENCES b (id) NOT VALID", []),
        ("ALTER TABLE users ADD CHECK(a > 0)", ["add-constraint"]),
        ("ALTER TABLE users ADD COLUMN a int CHECK (a > 0)", ["add-constraint"]),
        ('ALTER TABLE users ADD COLUMN "check" int', []),
        ("ALTER TABLE users ADD UNIQUE (a)", ["add-unique"]),
        ("ALTER TABLE users ADD UNIQUE USING INDEX a", []),
        ("ALTER TABLE users ADD PRIMARY KEY (a)", ["add-unique"]),
        ("ALTER TABLE users ADD EXCLUDE USING gist (a WITH &&)", ["add-unique"]),
        ("ALTER TABLE users ADD COLUMN a int UNIQUE", ["add-unique"]),
        ("ALTER TABLE users ADD a int PRIMARY KEY", ["add-unique"]),
        ('ALTER TABLE users ADD COLUMN "unique" int, ADD exclude int, ADD COLUMN serial_number text', []),
        ("ALTER TABLE users ADD CONSTRAINT c NOT NULL a", ["set-not-null"]),
        ("ALTER TABLE users ADD NOT NULL a", ["set-not-null"]),
        ("ALTER TABLE users ADD CONSTRAINT c NOT NULL a NOT VALID", []),
        ("ALTER TABLE users ADD COLUMN a text DEFAULT NULL NOT NULL", ["add-not-null"]),
        ("create index concurrently ix_x on users (email)", ["concurrently"]),
        ("DROP INDEX x", ["drop-index"]),
        ("DROP INDEX IF EXISTS x, y", ["drop-index", "drop-index"]),
        ("LOCK TABLE users", ["lock-table"]),
        ("LOCK ONLY users IN SHARE MODE", ["lock-table"]),
        ("ALTER TABLE users SET UNLOGGED", ["rewrite"]),
        ("ALTER TABLE users SET LOGGED, SET TABLESPACE x", ["rewrite", "rewrite"]),
        ("ALTER TABLE users SET (fillfactor = 70)", []),
        ("DROP SCHEMA x CASCADE", ["drop-table"]),
        # All of a list, but for what the same migration makes.
        ("create table xx (id int); DROP TABLE IF EXISTS xx,users", ["drop-table"]),
        ("CREATE TABLE xx (id int); TRUNCATE ONLY xx, ONLY users", ["truncate"]),
        ("CREATE UNLOGGED TABLE xx (id int); CREATE INDEX ix_xx ON xx (id)", []),
        ("UPDATE \"users\" SET full_name = 'WHERE'", ["backfill"]),
    ],
)
def test_what_is_said_of_sql(source: Source, statement: str, rules: list[str]) -> None:
    test_what_is_said(source, f"op.execute({statement!r})", rules)


@pytest.mark.parametrize(
    ("up", "rules"),
    [
        ('op.drop_column("users", "full_name")', ["in-use"]),
        ('op.execute("DROP TABLE xx, users")', ["in-use"]),
        ('op.execute("TRUNCATE xx, users")', ["in-use"]),
        ('op.drop_table("users")', ["in-use"]),
        ('op.execute("ALTER TABLE users DROP COLUMN IF EXISTS full_name")', ["in-use"]),
        ('op.alter_column("users", "full_name", new_column_name="x")', ["in-use"]),
        ('op.drop_column("users", "nobody_has_it")', []),
        ('op.drop_table("nobody_has_it")', []),
    ],
)
def test_a_contract_step_takes_away_what_nobody_uses(source: Source, up: str, rules: list[str]) -> None:
    source.add("test1", up, 'op.execute("SELECT 1")', phase="contract")
    assert [finding.rule for finding in look_at(chain()[-1])] == rules


def test_the_way_back_says_all_that_it_takes(source: Source) -> None:
    before = chain()[-1].id
    down = """op.execute("TRUNCATE roles, sessions")
    op.execute("ALTER TABLE users DROP full_name, DROP COLUMN IF EXISTS email")
    op.execute("DROP TABLE IF EXISTS devices")"""
    source.add("test1", 'op.execute("SELECT 1")', down)
    assert removed("test1", before) == [
        ("the table roles", "roles"),
        ("the table sessions", "sessions"),
        ("the column users.full_name", "users WHERE full_name IS NOT NULL"),
        ("the column users.email", "users WHERE email IS NOT NULL"),
        ("the table devices", "devices"),
    ]


@pytest.mark.parametrize(
    ("down", "lost"),
    [
        ("ALTER TABLE users ADD x text DEFAULT 'x, DROP y'", []),
        ('ALTER TABLE "old.users" DROP x', [("the column old.users.x", '"old.users" WHERE x IS NOT NULL')]),
        ("ALTER TABLE users DROP x /* , DROP y */", [("the column users.x", "users WHERE x IS NOT NULL")]),
        (
            "ALTER TABLE IF EXISTS public.users RENAME TO people; ALTER TABLE people DROP x; DELETE FROM people",
            [
                ("the column users.x", "public.users WHERE x IS NOT NULL"),
                ("rows of public.users", "public.users"),
            ],
        ),
        (
            'DROP TABLE a, "b, c",d CASCADE',
            [("the table a", "a"), ("the table b, c", '"b, c"'), ("the table d", "d")],
        ),
        ("TRUNCATE TABLE ONLY a, ONLY b", [("the table a", "a"), ("the table b", "b")]),
        ("DELETE FROM users RETURNING id", [("rows of users", "users")]),
        (
            "DELETE FROM users WHERE x = ' RETURNING  y' RETURNING id",
            [("rows of users WHERE x = ' RETURNING  y'", "users WHERE x = ' RETURNING  y'")],
        ),
        ("DROP SCHEMA x", [("the schema x, a row for each table", "pg_tables WHERE schemaname = 'x'")]),
    ],
)
def test_the_way_back_takes_what_its_sql_says(source: Source, down: str, lost: list[tuple[str, str]]) -> None:
    before = chain()[-1].id
    source.add("test1", 'op.execute("SELECT 1")', f"op.execute({down!r})")
    assert removed("test1", before) == lost


@pytest.mark.parametrize("down", ["pass", "raise NotImplementedError", 'op.execute("-- nothing")'])
def test_there_is_a_way_back_or_a_reason(source: Source, down: str) -> None:
    source.add("test1", 'op.add_column("users", sa.Column("x", sa.Text()))', down)
    assert [finding.rule for finding in look_at(chain()[-1])] == ["irreversible"]
    source.add("test2", 'op.execute("SELECT 1")', down, accepted={"irreversible": "it makes nothing"})
    assert look_at(chain()[-1]) == []


def test_the_way_back_works_where_there_are_rows(source: Source) -> None:
    down = 'op.add_column("users", sa.Column("x", sa.Text(), nullable=False))'
    source.add("test1", 'op.drop_column("users", "x")', down, phase="contract")
    assert [finding.rule for finding in look_at(chain()[-1])] == ["back-not-null"]


def test_our_own_hurt_nobody() -> None:
    ids = [one.id for one in chain()]
    assert [(one.id, finding.rule) for one in chain()[ids.index(UNJUDGED) + 1 :] for finding in look_at(one)] == []


def test_phase_is_said_by_all() -> None:
    """Who says nothing takes something away, as far as anybody knows."""
    silent = [
        path.name for path in (ROOT / "alembic/versions").glob("*.py") if "\nphase: str = " not in path.read_text()
    ]
    assert silent == []
