"""Statements that every request lives on, sent by asyncpg itself: SQLAlchemy's way to it costs more than they do.

They are written in SQLAlchemy's terms all the same, in `crud`, where the others are; a `Statement` is compiled once.
What is not asked by every request, or in a transaction with other statements, has no reason to be one.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from functools import cached_property, partial
from typing import Any, Final, Generic, Self, TypeVar
from uuid import UUID

import asyncpg
from sqlalchemy.dialects.postgresql.asyncpg import dialect
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.expression import Executable

from api.config import Settings
from api.core import spans
from api.core.connecting import connect, log_statement
from api.core.errors import DatabaseUnreachable, OutcomeUnknown
from api.core.failures import DATABASE_ERRORS, IN_USE, NONE_FREE, is_cut_off, translated

# Connections besides those of SQLAlchemy's pool: what is written waits for the disk, eight at a time.
CONNECTIONS: Final = 8
# Lookups of one kind that are under way at once; whoever comes meanwhile shares the next one.
AT_ONCE: Final = 2
# PostgreSQL takes an array that it does not know yet for one of ten elements. A plan for a known, shorter one looks
# cheaper than the plan that it keeps, so it would make one for each statement, which takes longer than the answer.
# (plan_cache_mode is no way out: it would keep the plans of lists as well, and those need one for their values.)
ELEMENTS: Final = 10
DIALECT: Final = dialect()  # type: ignore[no-untyped-call]

K = TypeVar("K")
V = TypeVar("V")


class Statement:
    """A statement of SQLAlchemy's, as asyncpg takes it; compiled when it is first needed.

    Attributes:
        executable: The statement, for whoever has a session.
        repeatable: Whoever does not hear what came of it can just as well ask once more.
    """

    def __init__(self, executable: Executable, *, repeatable: bool = True) -> None:
        self.executable = executable
        self.repeatable = repeatable

    @cached_property
    def text(self) -> str:
        """The SQL."""
        return str(self._compiled)

    def arguments(self, values: dict[str, Any]) -> list[Any]:
        """Return the values of its parameters in their order: those given here, and those that it has itself."""
        return [known if is_known else values[name] for name, is_known, known in self._known]

    @cached_property
    def _compiled(self) -> SQLCompiler:
        compiled: SQLCompiler = self.executable.compile(dialect=DIALECT)  # type: ignore[attr-defined]
        return compiled

    @cached_property
    def _known(self) -> tuple[tuple[str, bool, Any], ...]:
        names, binds = self._compiled.positiontup or (), self._compiled.binds
        return tuple((name, not binds[name].required, self._compiled.params[name]) for name in names)


class Direct:
    """A process's own connections for such statements, each of which is a transaction of its own.

    Attributes:
        in_use: Connections that somebody has.
        awaited: How many wait for one.
    """

    def __init__(self, connect: Callable[[], Awaitable[asyncpg.Connection]], timeout: float, places: int) -> None:
        self._connect = connect
        self._timeout = timeout
        self._number = places
        self._idle: list[asyncpg.Connection] = []
        self._closing: set[asyncio.Task[None]] = set()
        self._places = asyncio.Semaphore(places)
        self._lookups: dict[Any, Lookup[Any, Any]] = {}
        self.in_use = self.awaited = 0

    @classmethod
    @asynccontextmanager
    async def open(
        cls, url: str, settings: Settings, *, places: int = CONNECTIONS, **options: Any
    ) -> AsyncIterator[Self]:
        """Hold them for the length of a `with` block; each is opened, with these options, when it is first needed."""
        direct = cls(partial(connect, url, settings, **options), settings.pool_timeout, places)
        try:
            yield direct
        finally:
            await direct._end()

    async def fetch(self, statement: Statement, **values: Any) -> list[asyncpg.Record]:
        """Return the rows of a statement.

        Raises:
            ApictlError: The database's failures, in terms of the error table.
        """
        with translated():
            connection = await self._take()
            is_whole = False
            log_statement(statement.text)
            try:
                with spans.statement(statement.text):
                    rows: list[asyncpg.Record] = await connection.fetch(statement.text, *statement.arguments(values))
                is_whole = True
            except BaseException as error:
                is_refused = isinstance(error, asyncpg.PostgresError | asyncpg.InterfaceError)
                is_whole = is_refused and not connection.is_closed()
                if not is_whole and isinstance(error, Exception):
                    # What cut this one off may have cut off the others too: nobody is to find out one by one.
                    self._leave(*self._idle)
                    self._idle.clear()
                if not statement.repeatable and is_cut_off(error):
                    raise OutcomeUnknown from error
                raise
            finally:
                if is_whole:
                    self._idle.append(connection)
                else:
                    self._leave(connection)
                self._give_back()
            return rows

    def _leave(self, *connections: asyncpg.Connection) -> None:
        """Close connections that were cut off: nobody else is to wait until the database has heard of it."""
        for connection in connections:
            closing = asyncio.create_task(close(connection))
            self._closing.add(closing)
            closing.add_done_callback(self._closing.discard)

    async def _end(self) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(self._timeout):
                # What nobody waits for any more has its connection still.
                for _ in range(self._number):
                    await self._places.acquire()
        await asyncio.gather(*(lookup.ended() for lookup in self._lookups.values()))
        await asyncio.gather(*self._closing, *(close(connection) for connection in self._idle))

    async def _take(self) -> asyncpg.Connection:
        """Return a connection that nobody uses.

        asyncpg's own pool cleans up after whoever had one, in a task of its own, which is 6 % of what a list takes;
        here, nobody leaves anything.

        Raises:
            DatabaseUnreachable: All are in use, for too long.
        """
        if self._places.locked():
            self.awaited += 1
            try:
                async with asyncio.timeout(self._timeout):
                    await self._places.acquire()
            except TimeoutError:
                raise DatabaseUnreachable(IN_USE, cause=NONE_FREE, hint="try again") from None
            finally:
                self.awaited -= 1
        else:
            # A timeout costs something too; who need not wait needs none.
            await self._places.acquire()
        self.in_use += 1
        while self._idle:
            connection = self._idle.pop()
            if not connection.is_closed():
                return connection
        try:
            return await self._connect()
        except BaseException:
            self._give_back()
            raise

    @property
    def idle(self) -> int:
        """How many connections nobody has."""
        return len(self._idle)

    def _give_back(self) -> None:
        """Let the next one have a place."""
        self.in_use -= 1
        self._places.release()

    async def fetch_one(self, statement: Statement, **values: Any) -> asyncpg.Record | None:
        """Return the only row of a statement, or None.

        Raises:
            ApictlError: The database's failures, in terms of the error table.
        """
        rows = await self.fetch(statement, **values)
        return rows[0] if rows else None

    async def look_up(self, statement: Statement, key: UUID) -> asyncpg.Record | None:
        """Return the row with this key, as it is after this call: those who ask in the same moment share a statement.

        The statement takes `keys`, and has each row's own as `key`.

        Raises:
            ApictlError: The database's failures, in terms of the error table.
        """

        async def read(keys: list[UUID]) -> dict[UUID, asyncpg.Record]:
            padded = keys + keys[-1:] * (ELEMENTS - len(keys))
            return {row["key"]: row for row in await self.fetch(statement, keys=padded)}

        return await self._lookup(statement, read).ask(key)

    async def fetch_shared(self, statement: Statement, **values: Any) -> list[asyncpg.Record]:
        """Return the rows of a statement that reads, as they are after this call, to all who ask it in the same moment.

        Raises:
            ApictlError: The database's failures, in terms of the error table.
        """

        async def read(_: list[None]) -> dict[None, list[asyncpg.Record]]:
            return {None: await self.fetch(statement, **values)}

        rows = await self._lookup((statement, repr(values)), read).ask(None)
        assert rows is not None  # noqa: S101 - as `read` has them
        return rows

    def _lookup(self, what: Any, read: "Callable[[list[K]], Awaitable[dict[K, V]]]") -> "Lookup[K, V]":
        """Return what is under way of this already, or else a new one, which is forgotten when nobody waits for it."""
        if what not in self._lookups:
            self._lookups[what] = Lookup(read, partial(self._lookups.pop, what, None))
        return self._lookups[what]


class Lookup(Generic[K, V]):
    """Values by their keys, for many who each want one."""

    def __init__(self, read: Callable[[list[K]], Awaitable[dict[K, V]]], forget: Callable[[], object]) -> None:
        self._read = read
        self._forget = forget
        self._asked: dict[K, list[asyncio.Future[V | None]]] = {}
        self._running: set[asyncio.Task[None]] = set()
        self._is_due = False

    async def ended(self) -> None:
        """End what is still under way, whoever asked for it."""
        for task in self._running:
            task.cancel()
        await asyncio.gather(*self._running, return_exceptions=True)

    def ask(self, key: K) -> "asyncio.Future[V | None]":
        """Return what will have the value. What began to be read before now does not answer it."""
        loop = asyncio.get_running_loop()
        # One for each who asks: who is cancelled takes nothing from the others.
        future: asyncio.Future[V | None] = loop.create_future()
        self._asked.setdefault(key, []).append(future)
        if not self._is_due and len(self._running) < AT_ONCE:
            self._is_due = True
            loop.call_soon(self._begin)
        return future

    def _begin(self) -> None:
        self._is_due = False
        asked, self._asked = self._asked, {}
        task = asyncio.create_task(self._answer(asked))
        self._running.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._running.discard(task)
        if self._asked and not self._is_due:
            self._begin()
        elif not self._running and not self._is_due:
            self._forget()

    async def _answer(self, asked: dict[K, list[asyncio.Future[V | None]]]) -> None:
        try:
            found = await self._read(list(asked))
        except BaseException as error:
            for future in (one for waiting in asked.values() for one in waiting):
                if not future.done():
                    # Everybody has to hear it; whoever is cancelled here has nobody to tell.
                    if isinstance(error, Exception):
                        future.set_exception(error)
                    else:
                        future.cancel()
            if not isinstance(error, Exception):
                raise
        else:
            for key, waiting in asked.items():
                for future in waiting:
                    if not future.done():
                        future.set_result(found.get(key))


async def close(connection: asyncpg.Connection) -> None:
    """Close a connection, whatever state it is in; after a second without its consent."""
    with suppress(*DATABASE_ERRORS):
        await connection.close(timeout=1)
