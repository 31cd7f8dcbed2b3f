"""The rules about migrations, the same behind both doors. How they are run: `migrations.runner`."""

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import cast

from sqlalchemy.ext.asyncio import AsyncEngine

from api.core.actor import Actor, Scope
from api.core.errors import Conflict
from api.core.runtime import Transaction
from api.migrations import crud
from api.migrations.revisions import Phase, chain, head
from api.migrations.runner import PATIENCE, Limits, Runner
from api.migrations.schemas import (
    FindingRead,
    MigrationApplied,
    MigrationPlan,
    MigrationPlanned,
    MigrationRead,
    MigrationRolledBack,
    MigrationRun,
    MigrationStamped,
    MigrationState,
    MigrationStatus,
    MigrationUpgrade,
    RollbackPlan,
    run_read,
)
from api.migrations.state import downwards, known, pending, state, target_of, upwards

RUNS_SHOWN = 10
# Rows that are counted before going back, at most.
MANY = 1_000_000


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

    async def migration_state(self, to: str | None = None) -> MigrationState:
        """Return where the database stands, and no more: fast enough for a script that asks every second.

        With a revision, only what is pending up to that one.

        Raises:
            RevisionNotFound: There is no such revision.
            Conflict: The database is beyond it.
            DatabaseNewer: At a revision that this code does not know.
            ForeignDatabase: The tables are not ours.
        """
        found = await self._state()
        # Raises, if it is newer: whoever asks so wants to know.
        pending(found.current)
        if to is not None:
            found.pending = [MigrationRead.model_validate(one) for one in upwards(found.current, known(to).id)]
        return found

    async def plan(self, to: str | None) -> MigrationPlan:
        """Return what a run would do to the database, and to those who work on it meanwhile.

        Raises:
            RevisionNotFound: There is no such revision to stop at.
            Conflict: The database is beyond it.
            DatabaseNewer: At a revision that this code does not know.
            ForeignDatabase: The tables are not ours.
        """
        from api.migrations.lint import look_at  # noqa: PLC0415 - loads Alembic

        current = (await self._state()).current
        target = target_of(to)
        # Nobody works on an empty database.
        look = look_at if current is not None else lambda _: []
        return MigrationPlan(
            current=current,
            to=target,
            steps=[
                MigrationPlanned(
                    **dict(MigrationRead.model_validate(one)),
                    findings=[FindingRead.model_validate(finding) for finding in look(one)],
                )
                for one in upwards(current, target)
            ],
        )

    async def sql(self, how: MigrationUpgrade) -> str:
        """Return the SQL of a run with its limits, for whoever wants to read it or to run it by hand.

        Raises:
            As `plan`.
        """
        from api.migrations.script import sql  # noqa: PLC0415 - loads Alembic

        current = (await self._state()).current
        steps = upwards(current, target_of(how.to))
        limits = Limits(how.lock_timeout, how.statement_timeout)
        try:
            return limits.within(sql(current, steps[-1].id)) if steps else ""
        except Exception as error:
            raise Conflict(
                "One of these migrations cannot be written as SQL: it needs a connection",
                cause=f"{type(error).__name__}: {error}",
                hint="apictl migrate --plan says which",
            ) from error

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
        """Return every migration, the newest first, and who applied it when; also those of a newer version.

        Raises:
            DatabaseNewer: At a revision that this code does not know.
            ForeignDatabase: The tables are not ours.
        """
        self._actor.require(Scope.MIGRATIONS_READ)
        async with self._transaction(readonly=True) as session:
            pending = {one.id for one in (await state(session)).pending}
            noted = await crud.applied(session)
        own = {revision.id for revision in chain()}
        beyond = sorted((note for note in noted.values() if note.revision not in own), key=lambda note: note.applied_at)
        found = [
            MigrationApplied(
                id=note.revision,
                text=note.text,
                phase=cast("Phase", note.phase),
                is_applied=True,
                applied_at=note.applied_at,
                actor=note.actor,
                door=note.door,
                host=note.host,
            )
            for note in reversed(beyond)
        ]
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
            OlderServers: Servers that run now may use what a migration takes away.
            MigrationFailed: A migration and what is stored contradict each other.
        """
        self._actor.require(Scope.MIGRATIONS_RUN)
        target = target_of(how.to)
        limits = Limits(how.lock_timeout, how.statement_timeout, how.force)
        async with self._open_engine() as engine:
            runner = Runner(engine, self._actor, limits, dry_run=dry_run, say=say)
            applied = await runner.upgrade(lambda current: upwards(current, target))
            after = await runner.look()
        return MigrationRun(**dict(after), applied=[MigrationRead.model_validate(one) for one in applied])

    async def rollback_plan(self, to: str | None) -> RollbackPlan:
        """Return what going back would take away; without a revision, one step.

        Raises:
            RevisionNotFound: There is no such revision.
            Conflict: The database is not beyond it.
            DatabaseNewer: At a revision that this code does not know.
            ForeignDatabase: The tables are not ours.
        """
        self._actor.require(Scope.MIGRATIONS_RUN)
        current = (await self.migration_state()).current
        target, undone = downwards(current, to)
        return RollbackPlan(
            current=current,
            to=target,
            steps=[MigrationRead.model_validate(one) for one in undone],
            lost=await self._losses(current, target) if current else [],
            served_by=await self._served_by(),
        )

    async def rollback(
        self,
        plan: RollbackPlan,
        how: MigrationUpgrade,
        *,
        dry_run: bool = False,
        say: Callable[[str], None] = lambda _: None,
    ) -> MigrationRolledBack:
        """Go back, as planned; only from a terminal.

        Raises:
            Conflict: Somebody has migrated meanwhile.
            MigrationRunning: Another process has been migrating for a minute.
            MigrationBlocked: Others have held what it needs for a minute.
            MigrationFailed: What is stored does not fit into what was before.
        """
        self._actor.require(Scope.MIGRATIONS_RUN)
        limits = Limits(how.lock_timeout, how.statement_timeout)
        async with self._open_engine() as engine:
            runner = Runner(engine, self._actor, limits, dry_run=dry_run, say=say)
            await runner.rollback([known(step.id) for step in plan.steps])
            after = await runner.look()
        return MigrationRolledBack(**dict(after), undone=plan.steps, lost=plan.lost)

    async def stamp(self, to: str, *, dry_run: bool = False) -> MigrationStamped:
        """Say that the database is at a revision, or at none (`base`), without changing anything else of it.

        Raises:
            RevisionNotFound: There is no such revision.
            MigrationRunning: Another process has been migrating for a minute.
        """
        self._actor.require(Scope.MIGRATIONS_RUN)
        target = None if to == "base" else known(to).id
        async with self._open_engine() as engine:
            runner = Runner(engine, self._actor, Limits(PATIENCE, None), dry_run=dry_run, say=lambda _: None)
            before = await runner.stamp(target)
        lacking = pending(target)
        return MigrationStamped(
            current=target,
            head=head(),
            pending=[MigrationRead.model_validate(one) for one in lacking],
            before=before,
        )

    async def _state(self) -> MigrationState:
        self._actor.require(Scope.MIGRATIONS_READ)
        async with self._transaction(readonly=True) as session:
            return await state(session)

    async def _losses(self, current: str, target: str | None) -> list[str]:
        """Return what the way back removes, and how much is in it; and who still works with it."""
        from api.migrations.lint import removed  # noqa: PLC0415 - loads Alembic

        lost = []
        try:
            leaving = removed(current, target)
        except Exception as error:  # noqa: BLE001 - a migration may do anything, where there is no connection
            leaving = []
            lost.append(f"what cannot be shown ({type(error).__name__}): look at the downgrades by eye")
        async with self._transaction(readonly=True) as session:
            for what, rows in leaving:
                count = await crud.count(session, rows, most=MANY)
                if count is None:
                    lost.append(f"{what}, whose rows could not be counted")
                elif count:
                    lost.append(f"{what}: {f'more than {MANY}' if count > MANY else count} row{'s'[: count != 1]}")
        return lost

    async def _served_by(self) -> list[str]:
        async with self._transaction(readonly=True) as session:
            return [
                f"{server.host}, process {server.pid}, with revision {server.revision}"
                for server in await crud.servers(session)
            ]
