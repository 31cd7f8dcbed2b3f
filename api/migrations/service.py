"""The rules about migrations, the same behind both doors."""

import asyncio
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import Final

from alembic import command
from alembic.config import Config
from sqlalchemy import Connection
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession

from api.audit import crud as audit
from api.core.actor import Actor, Scope
from api.core.errors import ApictlError, Kind, SchemaBehind
from api.core.failures import translated
from api.core.runtime import Transaction
from api.migrations import crud
from api.migrations.revisions import BrokenMigrations, Revision, chain, folder, head
from api.migrations.schemas import MigrationRead, MigrationRun, MigrationStatus

# Alembic's context is one per process.
_one_at_a_time: Final = asyncio.Lock()
LOCK_SECONDS: Final = 60


class MigrationRunning(ApictlError):
    """Another process is migrating, and it takes long."""

    kind = Kind.UNAVAILABLE
    code = "migration-running"
    title = "Another migration is running"


class DatabaseNewer(ApictlError):
    """The database is at a revision that this code does not know."""

    kind = Kind.SCHEMA
    code = "database-newer"
    title = "The database is at a revision that this version does not know"


class MigrationService:
    """Looks at the schema and brings it to head; one instance serves one call.

    To migrate, it opens a connection of its own, whose statements have no time limit: a migration takes as long as it
    takes. To look, it takes one of the process's.
    """

    def __init__(
        self,
        transaction: Transaction,
        open_engine: Callable[[], AbstractAsyncContextManager[AsyncEngine]],
        actor: Actor,
    ) -> None:
        self._transaction = transaction
        self._open_engine = open_engine
        self._actor = actor

    async def migration_status(self) -> MigrationStatus:
        """Return where the database stands.

        Raises:
            DatabaseNewer: At a revision that this code does not know.
        """
        self._actor.require(Scope.MIGRATIONS_READ)
        async with self._transaction(readonly=True) as session:
            return await status(session)

    async def upgrade(self, *, dry_run: bool = False) -> MigrationRun:
        """Bring the database to head, in one transaction; one process at a time, the others then find it done.

        Args:
            dry_run: Undo it at the end.

        Raises:
            MigrationRunning: Another process has been migrating for a minute.
            DatabaseNewer: At a revision that this code does not know.
        """
        self._actor.require(Scope.MIGRATIONS_RUN)
        async with self._transaction(readonly=True) as session:
            before = await status(session)
        if not before.pending:
            return MigrationRun(**before.model_dump(), applied=[])
        with translated():
            async with _one_at_a_time, self._open_engine() as engine, AsyncSession(engine) as session:
                return await self._upgrade(session, dry_run=dry_run)

    async def _upgrade(self, session: AsyncSession, *, dry_run: bool) -> MigrationRun:
        connection = await session.connection()
        await connection.run_sync(self._lock)
        # Looked at again: whoever held the lock may have done it.
        before = await status(session)
        if before.pending:
            await connection.run_sync(run_alembic)
            await audit.add(
                session,
                self._actor,
                action="migration.upgrade",
                target="schema",
                target_id=None,
                detail={"from": before.current, "to": before.head},
            )
        after = await status(session)
        await (session.rollback() if dry_run else session.commit())
        return MigrationRun(**after.model_dump(), applied=before.pending)

    @staticmethod
    def _lock(connection: Connection) -> None:
        try:
            crud.lock(connection, wait_seconds=LOCK_SECONDS)
        except Exception as error:
            if getattr(getattr(error, "orig", None), "sqlstate", None) == "55P03":
                raise MigrationRunning(hint="wait for it, then run this again", retry_after=10) from error
            raise


async def status(session: AsyncSession) -> MigrationStatus:
    """Return where the database stands; no permission is asked, because a start-up check has no actor.

    Raises:
        DatabaseNewer: At a revision that this code does not know.
        BrokenMigrations: The database is at two revisions at once.
    """
    found = await crud.current(session)
    if len(found) > 1:
        raise BrokenMigrations("The database is at two revisions at once", cause=", ".join(sorted(found)))
    current = found[0] if found else None
    return MigrationStatus(
        current=current,
        head=head(),
        pending=[MigrationRead.model_validate(item) for item in pending(current)],
    )


def pending(current: str | None) -> tuple[Revision, ...]:
    """Return the migrations that come after a revision; all of them after None.

    Raises:
        DatabaseNewer: There is no such revision in this code.
    """
    if current is None:
        return chain()
    ids = [revision.id for revision in chain()]
    if current not in ids:
        raise DatabaseNewer(
            f"The database is at revision {current}, which this version does not know",
            hint="install the version of apictl that made it, or restore a backup",
        )
    return chain()[ids.index(current) + 1 :]


async def require_head(session: AsyncSession) -> None:
    """Go on only if the schema is the one that this code was built for.

    Raises:
        SchemaBehind: Migrations are pending.
        DatabaseNewer: The database is ahead.
    """
    found = await status(session)
    if found.pending:
        raise SchemaBehind(f"The database lacks {len(found.pending)} migration(s)", hint="run: apictl migrate")


def run_alembic(connection: Connection) -> None:
    """Let Alembic upgrade this connection to head, inside the transaction that is open on it."""
    config = Config()
    config.set_main_option("script_location", str(folder()).replace("%", "%%"))
    config.attributes["connection"] = connection
    command.upgrade(config, "head")
