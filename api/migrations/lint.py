"""What a migration would do to whoever works on the database meanwhile, and to servers of an older version.

It reads the SQL that Alembic would run. What is said is worth a look; a migration that may do it all the same says why,
in `accepted = {"rule": "reason"}`.
"""

import re
from collections.abc import Iterator
from typing import Final, NamedTuple

from api.migrations.revisions import Revision
from api.migrations.script import sql, sql_back

NAME: Final = r'(?:"[^"]+"|\w+)(?:\.(?:"[^"]+"|\w+))?'
# Evaluated anew for each row: the whole table is written again.
VOLATILE: Final = r"random\(|gen_random_uuid\(|uuid_generate|clock_timestamp\(|nextval\(|GENERATED|SERIAL"

CONCURRENTLY: Final = (
    "in a migration of its own, with op.get_context().autocommit_block(): "
    'op.drop_index("{name}", table_name="{table}", if_exists=True, postgresql_concurrently=True), and then '
    'op.create_index("{name}", "{table}", …, postgresql_concurrently=True)'
)


LATER: Final = 'release code that does without it first; drop it later, in a migration with phase = "contract"'


class Finding(NamedTuple):
    """One thing that a migration would do to others, and how to do without."""

    rule: str
    message: str
    hint: str


class Rule(NamedTuple):
    """What is looked for in a statement: a pattern whose groups are `table` and, perhaps, `name`."""

    rule: str
    pattern: re.Pattern[str]
    message: str
    hint: str
    # Allowed in a contract step, which runs when nobody uses it any more.
    contract_may: bool = False


def rule(name: str, pattern: str, message: str, hint: str, *, contract: bool = False) -> Rule:
    """Return a rule whose pattern has TABLE_NAME and ITS_NAME for identifiers."""
    pattern = pattern.replace("TABLE_NAME", f"(?P<table>{NAME})").replace("ITS_NAME", f"(?P<name>{NAME})")
    return Rule(name, re.compile(pattern, re.IGNORECASE | re.DOTALL), message, hint, contract)


RULES: Final = (
    rule(
        "create-index",
        r"CREATE (?:UNIQUE )?INDEX (?!CONCURRENTLY)(?:IF NOT EXISTS )?ITS_NAME ON (?:ONLY )?TABLE_NAME",
        "nobody can write to {table} while the index {name} is built",
        CONCURRENTLY,
    ),
    rule(
        "add-not-null",
        r"ALTER TABLE TABLE_NAME ADD COLUMN ITS_NAME (?!.*DEFAULT)(?!.*GENERATED).*NOT NULL",
        "rows that are there have no value for {table}.{name}, and servers of an older version send none",
        "give it a server_default, or let it be null until a later contract step",
    ),
    rule(
        "volatile-default",
        rf"ALTER TABLE TABLE_NAME ADD COLUMN ITS_NAME .*(?:DEFAULT.*)?(?:{VOLATILE})",
        "all of {table} is written again, and nobody can read it meanwhile: {name} has another value in each row",
        "add it without a default, fill it in batches, and set the default afterwards",
    ),
    rule(
        "set-not-null",
        r"ALTER TABLE TABLE_NAME ALTER COLUMN ITS_NAME SET NOT NULL",
        "nobody can read {table} while all of it is looked through for nulls in {name}",
        'op.create_check_constraint("{name}_present", "{table}", "{name} IS NOT NULL", postgresql_not_valid=True); in '
        "the next migration VALIDATE it, then SET NOT NULL, which looks at nothing any more, and drop the check",
    ),
    rule(
        "change-type",
        r"ALTER TABLE TABLE_NAME ALTER COLUMN ITS_NAME TYPE",
        "all of {table} may be written again, and nobody can read it meanwhile",
        "add a column of the new type, fill it in batches, read from it, and drop the old one in a contract step",
    ),
    rule(
        "add-constraint",
        r"ALTER TABLE TABLE_NAME ADD CONSTRAINT ITS_NAME (?:CHECK|FOREIGN KEY)(?!.*NOT VALID)",
        "nobody can write to {table} while all of it is looked through for {name}",
        "postgresql_not_valid=True, and in the next migration: "
        'op.execute("ALTER TABLE {table} VALIDATE CONSTRAINT {name}")',
    ),
    rule(
        "add-unique",
        r"ALTER TABLE TABLE_NAME ADD CONSTRAINT ITS_NAME (?:UNIQUE|PRIMARY KEY)(?! USING INDEX)",
        "nobody can read {table} while the index of {name} is built",
        'make a unique index CONCURRENTLY first (see create-index), then op.execute("ALTER TABLE {table} '
        'ADD CONSTRAINT {name} UNIQUE USING INDEX {name}")',
    ),
    rule(
        "drop-column",
        r"ALTER TABLE TABLE_NAME DROP COLUMN ITS_NAME",
        "servers of an older version still use {table}.{name}",
        LATER,
        contract=True,
    ),
    rule(
        "drop-table",
        r"DROP TABLE (?:IF EXISTS )?TABLE_NAME",
        "servers of an older version still use {table}",
        LATER,
        contract=True,
    ),
    rule(
        "rename",
        r"ALTER TABLE TABLE_NAME RENAME (?!CONSTRAINT )(?:COLUMN )?(?:(?!TO )ITS_NAME )?TO",
        "servers of an older version look for it in {table} by its old name",
        'add the new one, write both, read the new one; drop the old one later, in a migration with phase = "contract"',
        contract=True,
    ),
    rule(
        "backfill",
        r"(?:UPDATE|DELETE FROM) (?!alembic_version)TABLE_NAME\b(?!.*\bWHERE\b)",
        "every row of {table} stays locked until the migration ends",
        "do it in batches, outside of the migration or in an autocommit_block",
    ),
)


def look_at(revision: Revision) -> list[Finding]:
    """Return what this migration would do to others, but for what it says that it accepts."""
    try:
        forward = statements(sql(revision.parent, revision.id))
    except Exception as error:  # noqa: BLE001 - a migration may do anything, where there is no connection
        found = [Finding("unreadable", f"it cannot be shown as SQL ({type(error).__name__})", "look at it by eye")]
    else:
        found = list(judged(forward, revision))
        if not is_reversible(revision):
            found.append(
                Finding("irreversible", "there is no way back", "write its downgrade, or say in `accepted` why not")
            )
    return [finding for finding in found if finding.rule not in revision.accepted]


def judged(forward: list[str], revision: Revision) -> Iterator[Finding]:
    """Yield what the rules say about these statements."""
    made = (re.match(rf"CREATE TABLE (?:IF NOT EXISTS )?({NAME})", one) for one in forward)
    new = {bare(match[1]) for match in made if match}
    for statement in forward:
        if "CONCURRENTLY" in statement and not revision.commits:
            yield Finding(
                "concurrently", "PostgreSQL does nothing CONCURRENTLY in a transaction", CONCURRENTLY.format(**UNNAMED)
            )
        for one in RULES:
            match = one.pattern.match(statement)
            if match is None:
                continue
            names = UNNAMED | {key: bare(text) for key, text in match.groupdict().items() if text}
            if one.contract_may and revision.phase == "contract":
                if is_in_use(**names):
                    message = one.message.format(**names)
                    yield Finding("in-use", f"the models of this version still have it: {message}", LATER)
                continue
            # In a table that the same migration makes, nobody works yet.
            if names["table"] not in new:
                yield Finding(one.rule, one.message.format(**names), one.hint.format(**names))


def is_in_use(table: str, name: str) -> bool:
    """Tell whether this version's models have a table, or a column of it."""
    from api.models import metadata  # noqa: PLC0415 - it imports every feature

    found = metadata.tables.get(table)
    return found is not None and (name == UNNAMED["name"] or name in found.columns)


def is_reversible(revision: Revision) -> bool:
    """Tell whether the way back does anything."""
    try:
        back = statements(sql_back(revision.id, revision.parent))
    except NotImplementedError:
        return False
    except Exception:  # noqa: BLE001 - as above
        return True
    return any("alembic_version" not in one for one in back)


def removed(current: str, to: str | None) -> list[tuple[str, str]]:
    """Return what the way back removes: in words, and as the FROM of a query for the rows that have it."""
    found = []
    for statement in statements(sql_back(current, to)):
        if "alembic_version" in statement:
            continue
        if match := re.match(rf"DROP TABLE (?:IF EXISTS )?({NAME})", statement, re.IGNORECASE):
            found.append((f"the table {bare(match[1])}", match[1]))
        if match := re.match(rf"ALTER TABLE ({NAME}) DROP COLUMN ({NAME})", statement, re.IGNORECASE):
            table, column = match.groups()
            found.append((f"the column {bare(table)}.{bare(column)}", f"{table} WHERE {column} IS NOT NULL"))
        if match := re.match(rf"DELETE FROM ({NAME}.*)", statement, re.IGNORECASE):  # noqa: S608
            found.append((f"rows of {match[1]}", match[1]))
    return found


UNNAMED: Final = {"table": "…", "name": "…"}
# What Alembic writes around the migration itself.
AROUND: Final = ("BEGIN", "COMMIT", "--")


def statements(script: str) -> list[str]:
    """Return the statements of an SQL script that Alembic wrote, each in one line."""
    found = []
    for part in script.split(";\n"):
        lines = [line for line in part.splitlines() if line.strip() and not line.startswith("--")]
        statement = " ".join(" ".join(lines).split())
        if statement and not statement.startswith(AROUND):
            found.append(statement)
    return found


def bare(name: str) -> str:
    """Return an identifier without its schema and quotes."""
    return name.rpartition(".")[2].strip('"')
