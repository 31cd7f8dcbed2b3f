"""Where a database stands, seen from this version of the code. Alembic is not needed for that."""

from sqlalchemy.ext.asyncio import AsyncSession

from api.core.errors import ApictlError, Conflict, Kind, SchemaBehind
from api.migrations import crud
from api.migrations.revisions import BrokenMigrations, Revision, chain, head
from api.migrations.schemas import MigrationRead, MigrationState


class DatabaseNewer(ApictlError):
    """The database is at a revision that this code does not know."""

    kind = Kind.SCHEMA
    code = "database-newer"
    title = "The database is at a revision that this version does not know"
    default_hint = "install the version of apictl that made it, or restore a backup"


class ForeignDatabase(ApictlError):
    """The tables in this database are somebody else's."""

    kind = Kind.MISCONFIGURED
    code = "foreign-database"
    title = "The database holds tables of something else"
    default_hint = (
        "give apictl a database of its own, or a schema: CREATE SCHEMA apictl, and "
        "?options=-csearch_path%3Dapictl at the end of APICTL_DATABASE_URL"
    )


class RevisionNotFound(ApictlError):
    """No such migration in this version."""

    kind = Kind.NOT_FOUND
    code = "revision-not-found"
    title = "There is no such revision"
    default_hint = "apictl migration-history shows every revision"


async def state(session: AsyncSession) -> MigrationState:
    """Return where the database stands; no permission is asked, because a start-up check has no actor.

    Raises:
        DatabaseNewer: At a revision that this code does not know.
        ForeignDatabase: The tables are not ours.
        BrokenMigrations: The database is at two revisions at once.
    """
    found = await crud.current(session)
    if len(found) > 1:
        raise BrokenMigrations(
            "The database is at two revisions at once",
            cause=", ".join(sorted(found)),
            hint="apictl stamp says which one it is at",
        )
    current = found[0] if found else None
    if current is None and (tables := await crud.foreign_tables(session)):
        raise ForeignDatabase(cause=f"there are {', '.join(tables[:3])}" + (" and others" if tables[3:] else ""))
    try:
        lacking = pending(current)
    except DatabaseNewer:
        if not await crud.exists(session, "audit_entries", "users", "sessions"):
            raise ForeignDatabase(cause=f"its revision is {current}, and tables of ours are missing") from None
        raise
    return MigrationState(current=current, head=head(), pending=[MigrationRead.model_validate(one) for one in lacking])


def known(revision: str) -> Revision:
    """Return a migration of this version, by its whole id or the beginning of it.

    Raises:
        RevisionNotFound: There is none, or there are several.
    """
    found = [one for one in chain() if one.id.startswith(revision)]
    if len(found) != 1:
        raise RevisionNotFound(f"There is no revision {revision}" if not found else f"Several begin with {revision}")
    return found[0]


def pending(current: str | None) -> tuple[Revision, ...]:
    """Return the migrations that come after a revision; all of them after None.

    Raises:
        DatabaseNewer: There is no such revision in this code.
    """
    if current is None:
        return chain()
    ids = [revision.id for revision in chain()]
    if current not in ids:
        raise DatabaseNewer(f"The database is at revision {current}, which this version does not know")
    return chain()[ids.index(current) + 1 :]


def upwards(current: str | None, target: str | None) -> tuple[Revision, ...]:
    """Return the migrations from one revision up to another.

    Raises:
        Conflict: The database is beyond that one.
    """
    ahead = pending(current)
    if target == current or target is None:
        return ()
    steps = ahead[: [one.id for one in ahead].index(target) + 1] if target in {one.id for one in ahead} else ()
    if not steps:
        raise Conflict(
            f"The database is at {current}, which is beyond {target}", hint=f"to go back: apictl rollback --to {target}"
        )
    return steps


async def require_head(session: AsyncSession) -> None:
    """Go on only if the schema is the one that this code was built for.

    Raises:
        SchemaBehind: Migrations are pending.
        DatabaseNewer: The database is ahead.
    """
    found = await state(session)
    if found.pending:
        raise SchemaBehind(f"The database lacks {len(found.pending)} migration(s)", hint="run: apictl migrate")
