"""How migrations are run: one process at a time, in a transaction, without standing in others' way for long."""

import asyncio
import logging
import random
import re
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from itertools import takewhile
from typing import Any, Final

from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, AsyncSession

from api.core.actor import Actor
from api.core.errors import ApictlError, Conflict
from api.core.failures import translated
from api.migrations import crud
from api.migrations.refusals import MigrationBlocked, MigrationRunning, failure, named, statement_of
from api.migrations.revisions import Revision
from api.migrations.schemas import MigrationState
from api.migrations.servers import refuse_older
from api.migrations.state import OURS, state

log: Final = logging.getLogger("apictl")

# Alembic's context is one per process.
_one_at_a_time: Final = asyncio.Lock()
# Seconds that a run waits for another one; and that it tries again to get the locks that it needs.
PATIENCE: Final = 60.0
# Seconds between two attempts, at most.
LONGEST_PAUSE: Final = 5.0
LOCKED: Final = "55P03"
UNTRIED: Final = " (not tried: it leaves its transaction, or comes after one that does)"

Work = Callable[..., None]
Steps = Callable[[str | None], tuple[Revision, ...]]


class Blocked(Exception):
    """A statement waited for a lock for as long as it may; everything is undone."""


@dataclass(frozen=True, slots=True)
class Limits:
    """Seconds that a statement may wait for a lock, and that it may take; None: any number."""

    lock: float
    statement: float | None
    force: bool = False

    def within(self, script: str) -> str:
        """Return a script that Alembic wrote, with its transactions bounded: what has to be outside of them is not."""
        limits = {"lock_timeout": self.lock, "statement_timeout": self.statement or 0}
        lines = "".join(f"\nSET LOCAL {name} = '{int(seconds * 1000)}ms';" for name, seconds in limits.items())
        return re.sub("^BEGIN;$", lambda begin: begin[0] + lines, script, flags=re.MULTILINE)


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
        # What the audit log has besides, whether it goes well or not.
        self._forced: dict[str, Any] = {}
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
        at = (await self.look()).current
        todo = steps(at)
        began = time.monotonic()
        applied: list[Revision] = []
        try:
            while todo:
                applied += await self._patiently(partial(self._some, steps, began))
                at = (await self.look()).current
                todo = () if self._dry_run else steps(at)
        except (ApictlError, asyncio.CancelledError) as error:
            await self._note_failure("migration.upgrade", at, todo[-1].id, error, began)
            raise
        return applied

    async def rollback(self, undone: list[Revision]) -> None:
        """Take migrations back, the newest first.

        Raises:
            Conflict: The database is not at the first of them by now.
        """
        began = time.monotonic()
        left = undone
        try:
            while left:
                left = await self._patiently(partial(self._some_back, left, began))
        except (ApictlError, asyncio.CancelledError) as error:
            await self._note_failure("migration.rollback", left[0].id, undone[-1].parent, error, began)
            raise

    async def _some_back(self, left: list[Revision], began: float) -> list[Revision]:
        """Take back what fits into one transaction, or the one migration that leaves its own; return what is left."""
        from api.migrations.script import downgrade  # noqa: PLC0415

        with translated():
            async with AsyncSession(self._engine) as session:
                await self._lock(session)
                if (now := (await state(session)).current) != left[0].id:
                    raise Conflict(f"The database is at {now} by now", hint="look again: apictl migration-status")
                together = first_of(left)
                to = together[-1].parent
                tried = await self._carry_out(session, downgrade, to, together)
                if self._dry_run:
                    await session.rollback()
                    self._say_untried("take back", left, together if tried else [])
                    return []
                # The first migration makes the audit log, too.
                if await crud.exists(session, "audit_entries"):
                    await self._note(session, "migration.rollback", left[0].id, to, began)
                else:
                    log.warning("%s took the schema back from %s to %s", self._actor.name, left[0].id, to or "base")
                await session.commit()
        return left[len(together) :]

    async def stamp(self, to: str | None) -> list[str]:
        """Say that the database is at a revision; return what it said before."""
        from api.migrations.script import stamp  # noqa: PLC0415

        began = time.monotonic()
        with translated():
            async with alone(), AsyncSession(self._engine) as session:
                await self._lock(session)
                await crud.limit(session, "lock_timeout", self._limits.lock)
                before = await crud.current(session)
                if not await crud.exists(session, *OURS):
                    raise Conflict(
                        "There are no tables of apictl's here", hint="does APICTL_DATABASE_URL name its database?"
                    )
                connection = await session.connection()
                await connection.run_sync(stamp, to, self._who)
                await self._note(session, "migration.stamp", ", ".join(before) or None, to, began)
                await (session.rollback() if self._dry_run else session.commit())
        return before

    async def _patiently(self, attempt: Callable[[], Awaitable[list[Revision]]]) -> list[Revision]:
        deadline = time.monotonic() + PATIENCE
        pause = 0.5
        while True:
            try:
                async with alone():
                    return await attempt()
            except Blocked as blocked:
                if time.monotonic() + pause > deadline:
                    raise await self._blocked(blocked) from None
                self._say(f"{blocked.args[0]}: trying again, so that nobody waits behind us")
            # Not all at once, where there are several.
            await asyncio.sleep(pause * random.uniform(0.7, 1))  # noqa: S311 - no secret
            pause = min(2 * pause, LONGEST_PAUSE)

    async def _some(self, steps: Steps, began: float) -> list[Revision]:
        """Apply what fits into one transaction, or the one migration that leaves its own."""
        # Whoever finds nothing to do need not load Alembic.
        from api.migrations.script import upgrade  # noqa: PLC0415

        with translated():
            async with AsyncSession(self._engine) as session:
                await self._lock(session)
                before = (await state(session)).current
                todo = steps(before)
                if not todo:
                    return []
                together = first_of(todo)
                # Before the first one, if it is not meant to be done by force: half a way helps nobody.
                asked = together if self._limits.force else todo
                self._forced = await refuse_older(session, asked, force=self._limits.force)
                tried = await self._carry_out(session, upgrade, together[-1].id, together)
                if self._dry_run:
                    await session.rollback()
                    self._say_untried("apply", todo, together if tried else [])
                    return list(todo)
                await self._note(session, "migration.upgrade", before, together[-1].id, began)
                await session.commit()
        for one in together:
            # Now: a later one may fail.
            self._say(f"applied {one.id} {one.text}")
        return together

    def _say_untried(self, verb: str, todo: Sequence[Revision], tried: list[Revision]) -> None:
        for one in todo:
            self._say(f"would {verb} {one.id} {one.text}" + ("" if one in tried else UNTRIED))

    async def _carry_out(self, session: AsyncSession, work: Work, to: str | None, together: list[Revision]) -> bool:
        """Run what `first_of` returned in the session's transaction; False where a dry run could not undo it.

        A migration that leaves its transaction runs beside it: the lock stays here, because it would be lost there.
        Nothing bounds how long that one waits: what is done CONCURRENTLY waits for all who see the database as it was,
        and keeps nobody waiting.
        """
        if not together[0].commits:
            await crud.limit(session, "lock_timeout", self._limits.lock)
            await crud.limit(session, "statement_timeout", self._limits.statement)
            await self._run(await session.connection(), work, to, together)
            return True
        if self._dry_run:
            return False
        await crud.let_snapshot_go(session)
        async with self._engine.connect() as connection:
            await self._run(connection, work, to, together)
        return True

    async def _run(self, connection: AsyncConnection, work: Work, to: str | None, together: list[Revision]) -> None:
        from api.migrations.script import Recorder  # noqa: PLC0415

        recorder = Recorder(self._who)
        try:
            await connection.run_sync(work, to, recorder)
        except Exception as error:
            if (task := asyncio.current_task()) is not None and task.cancelling():
                # What takes the connection apart afterwards fails in its own words.
                raise asyncio.CancelledError from error
            failing = next((one for one in together if one.id not in recorder.done), together[-1])
            if getattr(getattr(error, "orig", None), "sqlstate", None) == LOCKED:
                raise Blocked(f"{named(failing)} waits for a lock that others hold", statement_of(error)) from None
            raise failure(failing, error) from error

    async def _lock(self, session: AsyncSession) -> None:
        deadline = time.monotonic() + PATIENCE
        while not await crud.lock(session):
            await session.rollback()
            if time.monotonic() > deadline:
                raise MigrationRunning
            await asyncio.sleep(random.uniform(0.1, 0.3))  # noqa: S311 - no secret

    async def _blocked(self, blocked: "Blocked") -> MigrationBlocked:
        what, statement = blocked.args
        what = what[0].upper() + what[1:]
        with translated():
            async with AsyncSession(self._engine) as session:
                other = await crud.oldest_other(session)
        if other is None:
            return MigrationBlocked(what, cause=f"in: {statement}", hint="run it again later")
        return MigrationBlocked(
            what,
            cause=f"in: {statement}; process {other.pid} ({other.usename}, {other.application_name or 'unnamed'}) has "
            f"had a transaction open for {other.seconds} seconds",
            hint="run it again later; or, if it is that process that is in the way, end it: "
            f"SELECT pg_terminate_backend({other.pid})",
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
            **self._forced,
        }
        await crud.note_run(session, self._actor, action=action, detail=detail | more)

    async def _note_failure(
        self, action: str, start: str | None, to: str | None, error: BaseException, began: float
    ) -> None:
        """Write down that a run failed; where that cannot be written either, the log has it."""
        if self._dry_run:
            return
        try:
            async with AsyncSession(self._engine) as session:
                if await crud.exists(session, "audit_entries"):
                    # Without words of its own: somebody has pressed Ctrl-C, or stopped the process.
                    detail, cause = getattr(error, "detail", "It was interrupted"), getattr(error, "cause", None)
                    more = {"outcome": "failed", "error": detail, "cause": cause}
                    await self._note(session, action, start, to, began, **more)
                    await session.commit()
        except Exception as second:  # noqa: BLE001 - the first one is what everybody has to see
            log.warning("a failed migration could not be recorded: %s", type(second).__name__)


def first_of(steps: Sequence[Revision]) -> list[Revision]:
    """Return those of the steps, from the first one on, that share a transaction; or the one that leaves its own."""
    return list(takewhile(lambda one: not one.commits, steps)) or [steps[0]]


@asynccontextmanager
async def alone() -> AsyncIterator[None]:
    """Be the only one in this process who has Alembic at work, for the length of a `with` block.

    Raises:
        MigrationRunning: Another one is, for a minute now.
    """
    try:
        async with asyncio.timeout(PATIENCE):
            await _one_at_a_time.acquire()
    except TimeoutError:
        raise MigrationRunning from None
    try:
        yield
    finally:
        _one_at_a_time.release()
