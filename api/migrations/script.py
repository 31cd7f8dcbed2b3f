"""Alembic at work. Imported only where it is needed: to look at a database's revision takes none of it."""

from argparse import Namespace
from collections.abc import Callable
from dataclasses import dataclass, field
from io import StringIO
from pathlib import Path
from typing import Any, Final

from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from sqlalchemy import Connection, delete, inspect
from sqlalchemy.dialects import postgresql
from sqlalchemy.dialects.postgresql import Insert, insert

from api.migrations.models import AppliedMigration
from api.migrations.revisions import chain, folder

# As in alembic.ini, which only Alembic itself reads.
FILE_NAME: Final = "%%(year)d%%(month).2d%%(day).2d_%%(hour).2d%%(minute).2d_%%(slug)s"
# The migration that makes the table that they are noted in.
NOTED_FROM: Final = "64aa6e514c97"
TABLE: Final = AppliedMigration.__tablename__


@dataclass(slots=True)
class Recorder:
    """Notes every migration that Alembic applies or takes back, in the migration's own transaction.

    Attributes:
        who: The columns `actor`, `door` and `host`.
        done: The revisions that it was told of in this run.
    """

    who: dict[str, str]
    done: list[str] = field(default_factory=list)

    def __call__(self, ctx: Any, step: Any, heads: Any, run_args: Any) -> None:
        """Be told by Alembic (`on_version_apply`)."""
        del heads, run_args
        self.done.append(step.up_revision_id)
        if ctx.as_sql or step.is_stamp or not inspect(ctx.connection).has_table(TABLE):
            return
        if step.is_upgrade:
            # Those too that came before the table that they are noted in.
            note(ctx.connection, self.done, self.who)
        else:
            ctx.connection.execute(delete(AppliedMigration).where(AppliedMigration.revision == step.up_revision_id))


def note(connection: Connection, revisions: list[str], who: dict[str, str]) -> None:
    """Write down that the database has these migrations, where that is not written already."""
    statement = noting(revisions, who)
    if statement is not None:
        connection.execute(statement)


def noting(revisions: list[str], who: dict[str, str]) -> Insert | None:
    """Return the statement that writes it down; None if there is nothing to write."""
    rows = [
        {
            "revision": revision.id,
            "parent": revision.parent,
            "text": revision.text,
            "phase": revision.phase,
            "unused_since": revision.unused_since,
            **who,
        }
        for revision in chain()
        if revision.id in revisions
    ]
    return insert(AppliedMigration).values(rows).on_conflict_do_nothing() if rows else None


def configured(connection: Connection | None, recorder: Recorder | None = None) -> Config:
    """Return Alembic's configuration for this connection; without one, it writes SQL."""
    # What it would say on stdout is not the command's data.
    config = Config(output_buffer=StringIO(), cmd_opts=Namespace(quiet=True))
    config.set_main_option("script_location", str(folder()).replace("%", "%%"))
    config.attributes["connection"] = connection
    config.attributes["recorder"] = recorder
    return config


def upgrade(connection: Connection, to: str, recorder: Recorder) -> None:
    """Go forward to a revision, inside the transaction that is open on the connection, if one is."""
    command.upgrade(configured(connection, recorder), to)


def downgrade(connection: Connection, to: str | None, recorder: Recorder) -> None:
    """Go back to a revision, or to the beginning."""
    command.downgrade(configured(connection, recorder), to or "base")


def stamp(connection: Connection, to: str | None, who: dict[str, str]) -> None:
    """Say that the database is at a revision, whatever it was at; nothing else of it changes."""
    command.stamp(configured(connection, Recorder(who)), to or "base", purge=True)
    if inspect(connection).has_table(TABLE):
        ids = [revision.id for revision in chain()]
        kept = ids[: ids.index(to) + 1] if to else []
        connection.execute(delete(AppliedMigration).where(AppliedMigration.revision.not_in(kept)))
        note(connection, kept, who)


def sql(start: str | None, to: str) -> str:
    """Return the SQL that goes forward from one revision to another."""
    script = written(command.upgrade, f"{start or 'base'}:{to}")
    ids = [revision.id for revision in chain()]
    done = ids[ids.index(start) + 1 if start else 0 : ids.index(to) + 1]
    noted = noting(done, {"actor": "by hand", "door": "sql", "host": ""})
    if noted is not None and ids.index(to) >= ids.index(NOTED_FROM):
        dialect = postgresql.dialect(paramstyle="named")  # type: ignore[no-untyped-call]
        note_text = str(noted.compile(dialect=dialect, compile_kwargs={"literal_binds": True}))
        into, _, rows = note_text.partition(" VALUES ")
        rows, _, conflict = rows.rpartition(" ON CONFLICT")
        # Whoever runs it by hand may run past an error.
        there = f"EXISTS (SELECT FROM alembic_version WHERE version_num = '{to}')"
        script += f"{into} SELECT * FROM (VALUES {rows}) AS done WHERE {there} ON CONFLICT{conflict};\n"  # noqa: S608
    return script


def sql_back(start: str, to: str | None) -> str:
    """Return the SQL that goes back from one revision to another."""
    return written(command.downgrade, f"{start}:{to or 'base'}")


def written(run: Callable[..., None], steps: str) -> str:
    """Return the SQL that Alembic writes for `from:to`, instead of running it."""
    config, script = configured(None), StringIO()
    config.output_buffer = script
    run(config, steps, sql=True)
    return script.getvalue()


def differences(connection: Connection) -> list[str]:
    """Return what the database would need to be as the models say; each in a line."""
    from api.models import metadata  # noqa: PLC0415 - it imports every feature

    options = {"compare_type": True, "compare_server_default": True}
    found = compare_metadata(MigrationContext.configure(connection, opts=options), metadata)
    # Several changes of one column come as a list.
    return [described(one) for change in found for one in (change if isinstance(change, list) else [change])]


def described(change: Any) -> str:
    """Return one of Alembic's differences in words."""
    verb, *parts = change
    words = verb.replace("_", " ")
    if verb.startswith("modify_"):
        _, table, column, *_ = parts
        return f"{words.removeprefix('modify ')} of {table}.{column} differs"
    if verb in {"add_column", "remove_column"}:
        _, table, column = parts
        return f"{words} {table}.{column.name}"
    thing = parts[0]
    name = getattr(thing, "name", None)
    table = getattr(getattr(thing, "table", None), "name", None)
    return f"{words} {name}" + (f" on {table}" if table and table != name else "")


def generate(connection: Connection, text: str) -> Path | None:
    """Write a migration from the database to the models; None, and no file, if they agree."""

    def unless_empty(context: Any, revision: Any, directives: list[Any]) -> None:
        del context, revision
        if directives and directives[0].upgrade_ops.is_empty():
            directives.clear()

    config = configured(connection)
    config.set_main_option("file_template", FILE_NAME)
    config.set_main_option("timezone", "UTC")
    made: Any = command.revision(config, text, autogenerate=True, process_revision_directives=unless_empty)
    # Of none, it returns the empty list.
    return Path(made.path) if made else None
