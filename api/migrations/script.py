"""Alembic at work. Imported only where it is needed: to look at a database's revision takes none of it."""

from dataclasses import dataclass, field
from io import StringIO
from typing import Any, Final

from alembic import command
from alembic.config import Config
from sqlalchemy import Connection, delete, inspect
from sqlalchemy.dialects.postgresql import insert

from api.migrations.models import AppliedMigration
from api.migrations.revisions import chain, folder

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
    if rows:
        connection.execute(insert(AppliedMigration).values(rows).on_conflict_do_nothing())


def configured(connection: Connection | None, recorder: Recorder | None = None) -> Config:
    """Return Alembic's configuration for this connection; without one, it writes SQL."""
    config = Config(output_buffer=StringIO())
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
    config = configured(None)
    config.output_buffer = config.stdout = buffer = StringIO()
    command.upgrade(config, f"{start or 'base'}:{to}", sql=True)
    return buffer.getvalue()


def sql_back(start: str, to: str | None) -> str:
    """Return the SQL that goes back from one revision to another."""
    config = configured(None)
    config.output_buffer = config.stdout = buffer = StringIO()
    command.downgrade(config, f"{start}:{to or 'base'}", sql=True)
    return buffer.getvalue()
