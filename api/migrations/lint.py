"""What a migration would do to whoever works on the database meanwhile, and to servers of an older version.

It reads the SQL that Alembic would run. What is said is worth a look; a migration that may do it all the same says why,
in `accepted = {"rule": "reason"}`.
"""

import re
from collections.abc import Iterator
from typing import Final, NamedTuple

from api.migrations.revisions import Revision
from api.migrations.script import sql, sql_back
from api.migrations.statements import NAME, UNQUOTED, actions, bare, pattern, statements

# Evaluated anew for each row: the whole table is written again.
VOLATILE: Final = r"random\(|gen_random_uuid\(|uuid_generate|clock_timestamp\(|nextval\(|GENERATED|SERIAL"

UNNAMED: Final = {"table": "…", "name": "…"}
DROP_CONCURRENTLY: Final = (
    "in a migration of its own, with op.get_context().autocommit_block(): "
    'op.drop_index("{name}", table_name="{table}", if_exists=True, postgresql_concurrently=True)'
)
CONCURRENTLY: Final = (
    DROP_CONCURRENTLY + ', and then op.create_index("{name}", "{table}", …, postgresql_concurrently=True)'
)
REPEATED: Final = "a build that is cut off leaves {name} behind, good for nothing and in the way of the next one"
MIXED: Final = "it waits for its lock without end, and everybody behind it: lock_timeout ends with the transaction"
ENDS: Final = "the lock of migrations ends with the transaction, and what failed after that stays half done"
LATER: Final = 'release code that does without it first; drop it later, in a migration with phase = "contract"'

DROPPED: Final = pattern("ALTER_TABLE DROP_COLUMN")
RENAMED: Final = pattern("ALTER_TABLE RENAME TO ITS_NAME")
VALIDATED: Final = pattern("ALTER_TABLE VALIDATE CONSTRAINT ITS_NAME")
EMPTIED: Final = pattern("(?:DROP TABLE|TRUNCATE)(?: TABLE| IF EXISTS)*+ TABLE_NAME")
DROPPED_SCHEMA: Final = pattern("DROP SCHEMA (?:IF EXISTS )?+ITS_NAME")
# Of what it returns, nothing is counted.
DELETED: Final = pattern(rf"DELETE FROM (?:ONLY )?+TABLE_NAME(?:.*?(?= RETURNING\b{UNQUOTED})|.*)")  # noqa: S608 - a pattern


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


def rule(name: str, looks_like: str, message: str, hint: str, *, contract: bool = False) -> Rule:
    """Return a rule for statements that look like this."""
    return Rule(name, pattern(looks_like), message, hint, contract)


RULES: Final = (
    rule(
        "create-index",
        r"CREATE (?:UNIQUE )?INDEX (?!CONCURRENTLY)(?:(?:IF NOT EXISTS )?(?!ON )ITS_NAME )?ON (?:ONLY )?TABLE_NAME",
        "nobody can write to {table} while the index {name} is built",
        CONCURRENTLY,
    ),
    rule(
        "add-not-null",
        r"ALTER_TABLE ADD_COLUMN (?!.*DEFAULT\b(?! NULL\b))(?!.*GENERATED).*NOT NULL",
        "rows that are there have no value for {table}.{name}, and servers of an older version send none",
        "give it a server_default, or let it be null until a later contract step",
    ),
    rule(
        "volatile-default",
        rf"ALTER_TABLE ADD_COLUMN .*(?:{VOLATILE})",
        "all of {table} is written again, and nobody can read it meanwhile: {name} has another value in each row",
        "add it without a default, fill it in batches, and set the default afterwards",
    ),
    rule(
        "set-not-null",
        r"ALTER_TABLE (?:ALTER (?:COLUMN )?+(?=ANY_NAME SET NOT NULL)"
        r"|ADD (?:CONSTRAINT ANY_NAME )?+NOT NULL (?!.*NOT VALID))ITS_NAME",
        "nobody can read {table} while all of it is looked through for nulls in {name}",
        'op.create_check_constraint("{name}_present", "{table}", "{name} IS NOT NULL", postgresql_not_valid=True); in '
        "the next migration VALIDATE it, then SET NOT NULL, which looks at nothing any more, and drop the check",
    ),
    rule(
        "change-type",
        r"ALTER_TABLE ALTER_COLUMN (?:SET DATA )?TYPE",
        "all of {table} may be written again, and nobody can read it meanwhile",
        "add a column of the new type, fill it in batches, read from it, and drop the old one in a contract step",
    ),
    rule(
        "rewrite",
        r"ALTER_TABLE SET (?:LOGGED|UNLOGGED|TABLESPACE)\b",
        "all of {table} is written again, and nobody can read it meanwhile",
        "do it outside of migrations, when nobody works with {table}",
    ),
    rule(
        "add-constraint",
        r"ALTER_TABLE ADD_WITH(?:CHECK|FOREIGN KEY|REFERENCES)\b(?!.*NOT VALID)",
        "nobody can write to {table}, nor to a table that it refers to, while all of it is looked through for {name}",
        "add a column alone, and then its constraint; a constraint with postgresql_not_valid=True, and in the next "
        'migration: op.execute("ALTER TABLE {table} VALIDATE CONSTRAINT {name}")',
    ),
    rule(
        "add-unique",
        r"ALTER_TABLE ADD_WITH(?:UNIQUE\b|PRIMARY KEY\b|EXCLUDE (?:USING\b|\())(?! USING INDEX)",
        "nobody can read {table} while the index of {name} is built",
        'make a unique index CONCURRENTLY first (see create-index), then op.execute("ALTER TABLE {table} '
        'ADD CONSTRAINT {name} UNIQUE USING INDEX {name}")',
    ),
    rule(
        "drop-column",
        r"ALTER_TABLE DROP_COLUMN",
        "servers of an older version still use {table}.{name}",
        LATER,
        contract=True,
    ),
    rule(
        "drop-index",
        r"DROP INDEX (?!CONCURRENTLY )(?:IF EXISTS )?+ITS_NAME",
        "nobody can read or write the table of {name} while it waits for its lock",
        DROP_CONCURRENTLY,
    ),
    rule(
        "drop-table",
        r"DROP (?:TABLE|SCHEMA(?=.* CASCADE)) (?:IF EXISTS )?+TABLE_NAME",
        "servers of an older version still use {table}",
        LATER,
        contract=True,
    ),
    rule(
        "truncate",
        r"TRUNCATE (?:TABLE )?+TABLE_NAME",
        "nobody can read {table} until the migration ends, and what servers have stored there is gone",
        "delete in batches, outside of the migration or in an autocommit_block, what nobody needs",
        contract=True,
    ),
    rule(
        "lock-table",
        r"LOCK (?:TABLE )?+TABLE_NAME",
        "others wait for {table} until the migration ends",
        "leave it out: each statement takes the lock that it needs",
    ),
    rule(
        "rename",
        r"ALTER_TABLE (?:SET SCHEMA|RENAME (?!CONSTRAINT )(?:COLUMN )?(?:(?!TO )ITS_NAME )?TO)",
        "servers of an older version look for it in {table} by its old name",
        'add the new one, write both, read the new one; drop the old one later, in a migration with phase = "contract"',
        contract=True,
    ),
    rule(
        "backfill",
        r"(?:UPDATE|DELETE FROM) (?!alembic_version)(?:ONLY )?+TABLE_NAME(?!\w)(?!.*\bWHERE\b)",
        "every row of {table} stays locked until the migration ends",
        "do it in batches, outside of the migration or in an autocommit_block",
    ),
)


def look_at(revision: Revision) -> list[Finding]:
    """Return what this migration would do to others, but for what it says that it accepts."""
    try:
        script = sql(revision.parent, revision.id)
    except Exception as error:  # noqa: BLE001 - a migration may do anything, where there is no connection
        why = f"it cannot be shown as SQL ({type(error).__name__}: {error})"
        found = [Finding("unreadable", why, "look at it by eye")]
    else:
        forward = statements(script)
        found = list(judged(forward, revision))
        # Alembic itself writes one.
        if not revision.commits and sum(one.upper().startswith(("COMMIT", "ROLLBACK")) for one in forward) > 1:
            found.append(Finding("ends-transaction", ENDS, "what has to commit: op.get_context().autocommit_block()"))
        back = the_way_back(revision)
        if back == []:
            found.append(
                Finding("irreversible", "there is no way back", "write its downgrade, or say in `accepted` why not")
            )
        if any(one.rule == "add-not-null" for one in judged(back or [], revision)):
            found.append(
                Finding("back-not-null", "the way back fails where there are rows", "give its column a server_default")
            )
    return [finding for finding in found if finding.rule not in revision.accepted]


def judged(forward: list[str], revision: Revision) -> Iterator[Finding]:
    """Yield what the rules say about these statements."""
    table = re.compile(rf"CREATE (?:UNLOGGED )?+TABLE (?:IF NOT EXISTS )?+({NAME})", re.IGNORECASE)
    tables = map(table.match, forward)
    new = {bare(match[1]) for match in tables if match}
    validated: set[tuple[str, str]] = set()
    dropped: set[str] = set()
    for statement in (one for whole in forward for one in actions(whole)):
        if looked := VALIDATED.match(statement):
            validated.add((bare(looked["table"]), bare(looked["name"])))
        if gone := re.match(rf"DROP INDEX (?:CONCURRENTLY )?IF EXISTS ({NAME})", statement, re.IGNORECASE):
            dropped.add(bare(gone[1]))
        made = re.match(
            rf"CREATE (?:UNIQUE )?INDEX CONCURRENTLY (?:IF NOT EXISTS )?({NAME}) ON", statement, re.IGNORECASE
        )
        if revision.commits and made and bare(made[1]) not in dropped:
            yield Finding("repeatable", REPEATED.format(name=bare(made[1])), CONCURRENTLY.format(**UNNAMED))
        if revision.commits and re.match(r"ALTER TABLE (?!.*VALIDATE CONSTRAINT)", statement, re.IGNORECASE):
            yield Finding("mixed", MIXED, "put it into a migration of its own, before or after this one")
        if "CONCURRENTLY" in statement.upper() and not revision.commits:
            yield Finding(
                "concurrently", "PostgreSQL does nothing CONCURRENTLY in a transaction", CONCURRENTLY.format(**UNNAMED)
            )
        for one in RULES:
            match = one.pattern.match(statement)
            if match is None:
                continue
            names = UNNAMED | {key: bare(text) for key, text in match.groupdict().items() if text}
            if one.rule == "set-not-null" and is_implied(validated, **names):
                continue
            if one.contract_may and revision.phase == "contract":
                if is_in_use(**names):
                    message = one.message.format(**names)
                    yield Finding("in-use", f"the models of this version still have it: {message}", LATER)
                continue
            # In a table that the same migration makes, nobody works yet.
            if names["table"] not in new:
                yield Finding(one.rule, one.message.format(**names), one.hint.format(**names))


def is_implied(validated: set[tuple[str, str]], table: str, name: str) -> bool:
    """Tell whether a NOT NULL is set without a look: a valid check, which bears the column's name, implies it."""
    return any(table == its_table and f"_{name}_" in f"_{check}_" for its_table, check in validated)


def is_in_use(table: str, name: str) -> bool:
    """Tell whether this version's models have a table, or a column of it."""
    from api.models import metadata  # noqa: PLC0415 - it imports every feature

    found = metadata.tables.get(table)
    return found is not None and (name == UNNAMED["name"] or name in found.columns)


def the_way_back(revision: Revision) -> list[str] | None:
    """Return the statements of the downgrade; None if it cannot be shown."""
    try:
        return backwards(revision.id, revision.parent)
    except NotImplementedError:
        return []
    except Exception:  # noqa: BLE001 - as above
        return None


def backwards(current: str, to: str | None) -> list[str]:
    """Return the statements that go back from one revision to another, without Alembic's own."""
    return [
        one
        for one in statements(sql_back(current, to))
        if not one.startswith(("BEGIN", "COMMIT")) and "alembic_version" not in one
    ]


def removed(current: str, to: str | None) -> list[tuple[str, str]]:
    """Return what the way back removes: in words, and as the FROM of a query for the rows that have it."""
    found = []
    # On the way back, a table may take another name before it goes.
    now: dict[str, str] = {}
    for statement in backwards(current, to):
        for action in actions(statement):
            if match := DROPPED_SCHEMA.match(action):
                name = bare(match["name"])
                found.append((f"the schema {name}, a row for each table", f"pg_tables WHERE schemaname = '{name}'"))
            match = RENAMED.match(action) or EMPTIED.match(action) or DROPPED.match(action) or DELETED.match(action)
            if match is None:
                continue
            table = now.get(bare(match["table"]), match["table"])
            if match.re is RENAMED:
                now[bare(match["name"])] = table
            elif match.re is EMPTIED:
                found.append((f"the table {bare(table)}", table))
            elif match.re is DROPPED:
                column = match["name"]
                found.append((f"the column {bare(table)}.{bare(column)}", f"{table} WHERE {column} IS NOT NULL"))
            elif match.re is DELETED:
                # With what stands in its quotes.
                rows = table + statement[match.end("table") : match.end()]
                found.append((f"rows of {rows}", rows))
    return found
