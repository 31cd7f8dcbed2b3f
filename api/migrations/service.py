"""The rules about migrations, the same behind both doors. How they are run: `migrations.runner`."""

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager

from sqlalchemy.ext.asyncio import AsyncEngine

from api.core.actor import Actor, Scope
from api.core.runtime import Transaction
from api.migrations import crud
from api.migrations.revisions import chain, head
from api.migrations.runner import Limits, Runner
from api.migrations.schemas import (
    MigrationApplied,
    MigrationRead,
    MigrationRun,
    MigrationState,
    MigrationStatus,
    MigrationUpgrade,
    run_read,
)
from api.migrations.state import known, state, upwards

RUNS_SHOWN = 10


class MigrationService:
    """Looks at the schema and changes it; one instance serves one call.

    To change it, it opens connections of its own, whose statements have no time limit: a migration takes as long as it
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

    async def migration_state(self) -> MigrationState:
        """Return where the database stands, and no more: fast enough for a script that asks every second.

        Raises:
            DatabaseNewer: At a revision that this code does not know.
            ForeignDatabase: The tables are not ours.
        """
        self._actor.require(Scope.MIGRATIONS_READ)
        async with self._transaction(readonly=True) as session:
            return await state(session)

    async def migration_status(self) -> MigrationStatus:
        """Return where the database stands, and what was done to it.

        Raises:
            DatabaseNewer: At a revision that this code does not know.
            ForeignDatabase: The tables are not ours.
        """
        self._actor.require(Scope.MIGRATIONS_READ)
        async with self._transaction(readonly=True) as session:
            found = await state(session)
            return MigrationStatus(
                **dict(found),
                is_running=await crud.is_running(session),
                runs=[run_read(entry) for entry in await crud.runs(session, count=RUNS_SHOWN)],
            )

    async def migration_history(self) -> list[MigrationApplied]:
        """Return every migration, the newest first, and who applied it when.

        Raises:
            DatabaseNewer: At a revision that this code does not know.
            ForeignDatabase: The tables are not ours.
        """
        self._actor.require(Scope.MIGRATIONS_READ)
        async with self._transaction(readonly=True) as session:
            pending = {one.id for one in (await state(session)).pending}
            noted = await crud.applied(session)
        found = []
        for revision in reversed(chain()):
            note = noted.get(revision.id)
            found.append(
                MigrationApplied(
                    **dict(MigrationRead.model_validate(revision)),
                    is_applied=revision.id not in pending,
                    applied_at=note and note.applied_at,
                    actor=note and note.actor,
                    door=note and note.door,
                    host=note and note.host,
                )
            )
        return found

    async def upgrade(
        self, how: MigrationUpgrade, *, dry_run: bool = False, say: Callable[[str], None] = lambda _: None
    ) -> MigrationRun:
        """Bring the database forward; one process at a time, the others then find it done.

        Args:
            how: How far, and within which bounds.
            dry_run: Undo it at the end.
            say: Is told what a person would like to know while it goes on.

        Raises:
            RevisionNotFound: There is no such revision to stop at.
            Conflict: The database is beyond it: this never goes back.
            DatabaseNewer: At a revision that this code does not know.
            ForeignDatabase: The tables are not ours.
            MigrationRunning: Another process has been migrating for a minute.
            MigrationBlocked: Others have held what it needs for a minute.
            MigrationFailed: A migration and what is stored contradict each other.
        """
        self._actor.require(Scope.MIGRATIONS_RUN)
        target = known(how.to).id if how.to is not None else head()
        limits = Limits(how.lock_timeout, how.statement_timeout)
        async with self._open_engine() as engine:
            runner = Runner(engine, self._actor, limits, dry_run=dry_run, say=say)
            applied = await runner.upgrade(lambda current: upwards(current, target))
            after = await runner.look()
        return MigrationRun(**dict(after), applied=[MigrationRead.model_validate(one) for one in applied])
