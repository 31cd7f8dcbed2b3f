"""How migrations are run: one process at a time, in a transaction, without standing in others' way for long."""

import asyncio
import logging
import random
import socket
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from itertools import takewhile
from typing import TYPE_CHECKING, Any, Final

from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, AsyncSession

from api.audit import crud as audit
from api.core.actor import Actor
from api.core.errors import ApictlError, Conflict, Kind
from api.core.failures import driver_words, translate, translated
from api.migrations import crud
from api.migrations.revisions import Revision, chain
from api.migrations.schemas import MigrationState
from api.migrations.state import state

if TYPE_CHECKING:
    from api.migrations.script import Recorder

log: Final = logging.getLogger("apictl")

# Alembic's context is one per process.
_one_at_a_time: Final = asyncio.Lock()
# Seconds that a run waits for another one; and that it tries again to get the locks that it needs.
PATIENCE: Final = 60.0
# Seconds between two attempts, at most.
LONGEST_PAUSE: Final = 5.0
LOCKED: Final = "55P03"

Steps = Callable[[str | None], tuple[Revision, ...]]


class MigrationRunning(ApictlError):
    """Another process is migrating, and it takes long."""

    kind = Kind.UNAVAILABLE
    code = "migration-running"
    title = "Another migration is running"
    default_hint = "wait for it, then run this again"
    default_retry_after = 10


class MigrationBlocked(ApictlError):
    """Others hold locks that a migration needs."""

    kind = Kind.UNAVAILABLE
    code = "migration-blocked"
    title = "Others hold what the migration needs"
    default_retry_after = 60


class MigrationFailed(ApictlError):
    """A migration and the database contradict each other: what is stored, or what is there already."""

    kind = Kind.CONFLICT
    code = "migration-failed"
    title = "The migration failed"
    default_hint = "nothing of it was kept; mend what the cause says, and run it again"


class OlderServers(ApictlError):
    """Servers of an older version still use what a migration takes away."""

    kind = Kind.CONFLICT
    code = "older-servers"
    title = "Servers of an older version are running"


class Blocked(Exception):
    """A statement waited for a lock for as long as it may; everything is undone."""


@dataclass(frozen=True, slots=True)
class Limits:
    """Seconds that a statement may wait for a lock, and that it may take; None: any number."""

    lock: float
    statement: float | None
    force: bool = False


class Runner:
    """Runs migrations on connections of its own; one instance serves one call."""

    def __init__(
        self, engine: AsyncEngine, actor: Actor, limits: Limits, *, dry_run: bool, say: Callable[[str], None]
    ) -> None:
        self._engine = engine
        self._actor = actor
        self._limits = limits
        self._dry_run = dry_run
        self._say = say
        self._host = socket.gethostname()
        self._who = {"actor": actor.name, "door": actor.door, "host": self._host}

    async def look(self) -> MigrationState:
        """Return where the database stands, without a lock."""
        with translated():
            async with AsyncSession(self._engine) as session:
                return await state(session)

    async def upgrade(self, steps: Steps) -> list[Revision]:
        """Go forward by the steps from where the database is, and return those that this run applied.

        Those that fit into a transaction share one. Whoever waited for the lock looks again: it may be done.
        """
        start = (await self.look()).current
        todo = steps(start)
        began = time.monotonic()
        applied: list[Revision] = []
        try:
            while todo:
                applied += await self._patiently(todo[0], lambda: self._some(steps, began))
                todo = () if self._dry_run else steps((await self.look()).current)
        except ApictlError as error:
            await self._note_failure("migration.upgrade", start, todo[-1].id, error, began)
            raise
        return applied

    async def rollback(self, expected: str | None, to: str | None, undone: list[Revision]) -> None:
        """Go back from where the database was seen; if it is elsewhere by now, nothing is done.

        Raises:
            Conflict: Somebody has migrated meanwhile.
        """
        from api.migrations.script import Recorder, downgrade  # noqa: PLC0415

        began = time.monotonic()

        async def attempt() -> list[Revision]:
            with translated():
                async with AsyncSession(self._engine) as session:
                    await self._lock(session)
                    if (now := (await state(session)).current) != expected:
                        raise Conflict(f"The database is at {now} by now", hint="look again: apictl migration-status")
                    recorder = Recorder(self._who)
                    if any(one.commits for one in undone):
                        await crud.let_snapshot_go(session)
                        async with self._engine.connect() as connection:
                            await self._run(connection, downgrade, to, undone, recorder)
                    else:
                        await self._bounded(session)
                        await self._run(await session.connection(), downgrade, to, undone, recorder)
                    # The first migration makes the audit log, too.
                    if await crud.exists(session, "audit_entries"):
                        await self._note(session, "migration.rollback", expected, to, began)
                    await (session.rollback() if self._dry_run else session.commit())
            return undone

        try:
            await self._patiently(undone[0], attempt)
        except ApictlError as error:
            await self._note_failure("migration.rollback", expected, to, error, began)
            raise

    async def stamp(self, to: str | None) -> list[str]:
        """Say that the database is at a revision; return what it said before."""
        from api.migrations.script import stamp  # noqa: PLC0415

        began = time.monotonic()
        with translated():
            async with _one_at_a_time, AsyncSession(self._engine) as session:
                await self._lock(session)
                before = await crud.current(session)
                connection = await session.connection()
                await connection.run_sync(stamp, to, self._who)
                if await crud.exists(session, "audit_entries"):
                    await self._note(session, "migration.stamp", ", ".join(before) or None, to, began)
                await (session.rollback() if self._dry_run else session.commit())
        return before

    async def _patiently(self, first: Revision, attempt: Callable[[], Awaitable[list[Revision]]]) -> list[Revision]:
        deadline = time.monotonic() + PATIENCE
        pause = 0.5
        while True:
            try:
                async with _one_at_a_time:
                    return await attempt()
            except Blocked as blocked:
                if time.monotonic() + pause > deadline:
                    raise await self._blocked(first) from None
                self._say(f"{blocked}: trying again, so that nobody waits behind us")
            # Not all at once, where there are several.
            await asyncio.sleep(pause * random.uniform(0.7, 1))  # noqa: S311 - no secret
            pause = min(2 * pause, LONGEST_PAUSE)

    async def _some(self, steps: Steps, began: float) -> list[Revision]:
        """Apply what fits into one transaction, or the one migration that leaves its own."""
        # Whoever finds nothing to do need not load Alembic.
        from api.migrations.script import Recorder, upgrade  # noqa: PLC0415

        with translated():
            async with AsyncSession(self._engine) as session:
                await self._lock(session)
                before = (await state(session)).current
                todo = steps(before)
                if not todo:
                    return []
                together = list(takewhile(lambda one: not one.commits, todo))
                more = await self._older(session, together or [todo[0]])
                recorder = Recorder(self._who)
                if together:
                    await self._bounded(session)
                    await self._run(await session.connection(), upgrade, together[-1].id, together, recorder)
                elif self._dry_run:
                    self._say(f"{named(todo[0])} cannot be undone: a dry run ends before it")
                    return []
                else:
                    together = [todo[0]]
                    # The lock stays here, beside it: in its own transaction it would be lost with that. And what is
                    # done CONCURRENTLY waits for everybody who sees the database as it was.
                    await crud.let_snapshot_go(session)
                    async with self._engine.connect() as connection:
                        await self._run(connection, upgrade, todo[0].id, together, recorder)
                await self._note(session, "migration.upgrade", before, together[-1].id, began, **more)
                await (session.rollback() if self._dry_run else session.commit())
                return together

    async def _bounded(self, session: AsyncSession) -> None:
        await crud.limit(session, "lock_timeout", self._limits.lock)
        await crud.limit(session, "statement_timeout", self._limits.statement)

    async def _run(
        self,
        connection: AsyncConnection,
        work: Callable[..., None],
        to: str | None,
        together: list[Revision],
        recorder: "Recorder",
    ) -> None:
        try:
            await connection.run_sync(work, to, recorder)
        except Exception as error:
            failing = next((one for one in together if one.id not in recorder.done), together[-1])
            if getattr(getattr(error, "orig", None), "sqlstate", None) == LOCKED:
                raise Blocked(f"{named(failing)} waits for a lock that others hold") from None
            raise failure(failing, error) from error

    async def _older(self, session: AsyncSession, together: list[Revision]) -> dict[str, Any]:
        """Refuse what servers that run now may still use; if it is done all the same, return what the audit log says.

        Raises:
            OlderServers: There are such servers, and nobody said `force`.
        """
        ids = [revision.id for revision in chain()]
        alive = await crud.servers(session)
        for one in together:
            # A server that is newer than this code is not in its list; it knows all of this.
            needed = ids.index(one.unused_since or one.id) if one.phase == "contract" else 0
            older = [server for server in alive if server.revision in ids[:needed]]
            if not older:
                continue
            if self._limits.force:
                return {"forced": [f"{server.host} {server.pid}" for server in older]}
            before = ids[ids.index(one.id) - 1]
            raise OlderServers(
                f"{named(one)} takes away what servers of an older version may use".capitalize(),
                cause="; ".join(f"{s.host}, process {s.pid}, was built for {s.revision}" for s in older[:5]),
                hint="stop them (whoever was killed counts for a minute), then run this again; or as far as "
                f"--to {before}; or with --force, if you know that they do not use it",
            )
        return {}

    async def _lock(self, session: AsyncSession) -> None:
        deadline = time.monotonic() + PATIENCE
        while not await crud.lock(session):
            await session.rollback()
            if time.monotonic() > deadline:
                raise MigrationRunning
            await asyncio.sleep(random.uniform(0.1, 0.3))  # noqa: S311 - no secret

    async def _blocked(self, revision: Revision) -> MigrationBlocked:
        with translated():
            async with AsyncSession(self._engine) as session:
                other = await crud.oldest_other(session)
        if other is None:
            return MigrationBlocked(f"{named(revision)} did not get its locks", hint="run it again later")
        return MigrationBlocked(
            f"{named(revision)} did not get its locks",
            cause=f"process {other.pid} ({other.usename}, {other.application_name or 'unnamed'}) has had a transaction "
            f"open for {other.seconds} seconds",
            hint=f"run it again later, or end that one: SELECT pg_terminate_backend({other.pid})",
        )

    async def _note(
        self, session: AsyncSession, action: str, start: str | None, to: str | None, began: float, **more: Any
    ) -> None:
        detail = {
            "from": start,
            "to": to,
            "host": self._host,
            "seconds": round(time.monotonic() - began, 3),
            "outcome": "succeeded",
        }
        await audit.add(session, self._actor, action=action, target=crud.RUNS, target_id=None, detail=detail | more)

    async def _note_failure(
        self, action: str, start: str | None, to: str | None, error: ApictlError, began: float
    ) -> None:
        """Write down that a run failed; where that cannot be written either, the log has it."""
        try:
            async with AsyncSession(self._engine) as session:
                if await crud.exists(session, "audit_entries"):
                    words = f"{error.detail}: {error.cause}" if error.cause else error.detail
                    await self._note(session, action, start, to, began, outcome="failed", error=words)
                    await session.commit()
        except Exception as second:  # noqa: BLE001 - the first one is what everybody has to see
            log.warning("a failed migration could not be recorded: %s", type(second).__name__)


def named(revision: Revision) -> str:
    """Return how a message calls a migration."""
    return f"migration {revision.id} ({revision.text})"


def failure(revision: Revision, error: Exception) -> ApictlError:
    """Return what it means that a migration failed, with its name and the statement that failed."""
    hint = MigrationFailed.default_hint
    if revision.commits:
        hint = "a part of it may be there, because it ran outside of a transaction; mend the cause, and run it again"
    if isinstance(error, ApictlError):
        return error
    what = f"{named(revision)} failed".capitalize()
    if not isinstance(error, DBAPIError):
        return MigrationFailed(what, cause=f"{type(error).__name__}: {error}", hint=hint)
    statement = " ".join((error.statement or "").split())
    cause = driver_words(error) + (f"; in: {statement[:300]}" if statement else "")
    meant = translate(error)
    if meant is None or meant.kind in {Kind.INVALID, Kind.CONFLICT, Kind.SCHEMA}:
        return MigrationFailed(what, cause=cause, hint=hint)
    # The disk, the network, a permission, the time: the migration is not to blame.
    return type(meant)(f"{what}: {meant.detail}", cause=cause, hint=meant.hint, retry_after=meant.retry_after)
