"""Where a database stands, seen from this version of the code. Alembic is not needed for that."""

import asyncio
from typing import Final

from sqlalchemy.ext.asyncio import AsyncSession

from api.core.errors import ApictlError, Conflict, DatabaseTimeout, DatabaseUnreachable, Kind, SchemaBehind
from api.core.runtime import SPARE_SECONDS, Runtime
from api.migrations import crud
from api.migrations.revisions import BrokenMigrations, Revision, chain, head
from api.migrations.schemas import MigrationRead, MigrationState

# Tables by which a database is known as one of ours.
OURS: Final = ("audit_entries", "users", "sessions")


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

    Nothing is pending in one that is newer than this code, if it has only been added to: this code works on it.

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
        cause = f"there are {', '.join(tables[:3])}" + (" and others" if tables[3:] else "")
        if await crud.exists(session, *OURS):
            raise ForeignDatabase(
                "The database does not say which revision it is at", cause=cause, hint="apictl stamp says it"
            )
        raise ForeignDatabase(cause=cause)
    try:
        lacking = pending(current)
    except DatabaseNewer:
        if not await crud.exists(session, *OURS):
            raise ForeignDatabase(cause=f"its revision is {current}, and tables of ours are missing") from None
        if not await is_only_expanded(session):
            raise
        lacking = ()
    return MigrationState(current=current, head=head(), pending=[MigrationRead.model_validate(one) for one in lacking])


async def is_only_expanded(session: AsyncSession) -> bool:
    """Tell whether what the database has beyond this code takes away nothing that this code uses."""
    own = {revision.id for revision in chain()}
    noted = await crud.applied(session)
    (at,) = await crud.current(session)
    while at not in own:
        step = noted.get(at)
        if step is None or step.parent is None:
            return False
        if step.phase != "expand" and (step.unused_since or step.revision) not in own:
            return False
        at = step.parent
    return at == head()


def known(revision: str) -> Revision:
    """Return a migration of this version, by its id, the beginning of it, or the word head.

    Raises:
        RevisionNotFound: There is none, or there are several.
    """
    found = [one for one in chain() if one.id.startswith(revision)]
    exact = chain()[-1:] if revision == "head" else [one for one in found if one.id == revision]
    found = list(exact) or found
    if len(found) != 1 or not revision:
        raise RevisionNotFound(
            f"Several revisions begin with {revision}" if revision and found else f"There is no revision {revision!r}"
        )
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
    if current is not None and current not in {one.id for one in chain()}:
        # Newer, and only added to: there is nothing that this code could do to it.
        return ()
    ahead = pending(current)
    if target == current or target is None:
        return ()
    steps = ahead[: [one.id for one in ahead].index(target) + 1] if target in {one.id for one in ahead} else ()
    if not steps:
        raise Conflict(
            f"The database is at {current}, which is beyond {target}", hint=f"to go back: apictl rollback --to {target}"
        )
    return steps


def target_of(to: str | None) -> str | None:
    """Return the whole id of the revision to stop at.

    Raises:
        RevisionNotFound: There is none.
    """
    return head() if to is None else known(to).id


def downwards(current: str | None, to: str | None) -> tuple[str | None, list[Revision]]:
    """Return where going back leads, and what it takes back, the newest first; without a revision, one step.

    Raises:
        RevisionNotFound: There is no such revision.
        Conflict: The database is not beyond it.
    """
    ahead = {one.id for one in pending(current)}
    there = [one for one in chain() if one.id not in ahead]
    if not there:
        raise Conflict("The database is empty: there is nothing to take back")
    back_to = there[-1].parent if to is None else to
    target = None if back_to in {None, "base"} else known(str(back_to)).id
    ids = [one.id for one in there]
    if target is not None and target not in ids[:-1]:
        raise Conflict(
            f"The database is at {current}: going back does not lead to {target}", hint="apictl migrate --to"
        )
    return target, list(reversed(there[ids.index(target) + 1 :] if target else there))


async def require_served(runtime: Runtime, known: list[str] | None) -> list[str] | None:
    """Go on only if requests can be served: the database answers, and this code can work on its schema.

    It is asked on a connection that no request can take, and for more than its revision only if that is neither this
    code's nor the one that was looked into before (`known`, which an earlier call returned).

    Raises:
        DatabaseUnreachable: It does not answer in time.
        SchemaBehind: Migrations are pending.
        DatabaseNewer: The database is ahead, and not known to have only been added to.
    """
    revisions = None
    try:
        async with asyncio.timeout(SPARE_SECONDS):
            revisions = [row["version_num"] for row in await runtime.spare.fetch_shared(crud.REVISIONS)]
    except SchemaBehind:
        # There is no such table: what there is, `state` looks at.
        pass
    except (TimeoutError, DatabaseTimeout) as error:
        # A database that hangs is as far away as one that is gone.
        raise DatabaseUnreachable(f"The database did not answer within {SPARE_SECONDS:g} s") from error
    if revisions is None or revisions not in ([head()], known):
        async with runtime.transaction(readonly=True) as session:
            await require_head(session)
    return revisions


async def require_head(session: AsyncSession, *, exactly: bool = False) -> None:
    """Go on only if this code can work on the schema: its own, or a newer one that takes away nothing of it.

    With `exactly`, only if it is its own.

    Raises:
        SchemaBehind: Migrations are pending.
        DatabaseNewer: The database is ahead, and not known to have only been added to.
    """
    found = await state(session)
    if exactly:
        # Raises, if it is newer.
        pending(found.current)
    if found.pending:
        raise SchemaBehind(f"The database lacks {len(found.pending)} migration(s)", hint="run: apictl migrate")
