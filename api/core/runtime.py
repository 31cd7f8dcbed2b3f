"""What a process holds: settings, the connection pool, the password hasher; opened once, closed once."""

import asyncio
from collections.abc import AsyncIterator, Hashable, Iterator
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from typing import Final, Protocol, Self
from weakref import WeakValueDictionary

from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession

from api.config import Settings
from api.core.connecting import unprepared
from api.core.direct import Direct
from api.core.errors import ApictlError, Busy, OutcomeUnknown
from api.core.failures import is_cut_off, translated
from api.core.passwords import Passwords
from api.core.valkey import Valkey
from api.database import make_engine
from api.postgres.embedded import EmbeddedPostgres

# Of one kind at once in a process, and how many seconds the others wait for their turn.
AT_ONCE: Final = 3
PATIENCE: Final = 2.0
# Seconds in which the database answers whoever asks whether it is there, or counts as gone.
SPARE_SECONDS: Final = 1.0


class Turn:
    """Lets others come between many who do the same at once: eight of them a round of the event loop, and no more."""

    def __init__(self) -> None:
        self._taken = 0
        self._lock = asyncio.Lock()

    async def take(self) -> None:
        """Wait for one's turn."""
        async with self._lock:
            self._taken = (self._taken + 1) % 8
            if not self._taken:
                await asyncio.sleep(0)


class Turnstile:
    """Lets few through at once of those who come for the same; the others wait before it."""

    def __init__(self) -> None:
        # Each is there for as long as somebody waits before it, or is inside.
        self._slots: WeakValueDictionary[Hashable, asyncio.Semaphore] = WeakValueDictionary()

    @asynccontextmanager
    async def pass_through(self, key: Hashable) -> AsyncIterator[None]:
        """Be one of the few for the length of a `with` block.

        Raises:
            Busy: Too many others wait.
        """
        slots = self._slots.setdefault(key, asyncio.Semaphore(AT_ONCE))
        try:
            async with asyncio.timeout(PATIENCE):
                await slots.acquire()
        except TimeoutError:
            raise Busy from None
        try:
            yield
        finally:
            slots.release()


class Transaction(Protocol):
    """`Runtime.transaction`."""

    def __call__(
        self, *, readonly: bool = False, commit_on: tuple[type[ApictlError], ...] = ()
    ) -> AbstractAsyncContextManager[AsyncSession]:
        """Open a transaction."""
        ...


@contextmanager
def held_database(settings: Settings, *, create: bool = False) -> Iterator[str]:
    """Hold the database for the length of a `with` block, and yield its URL; blocks while an embedded one starts.

    Args:
        settings: Name the database, or the home of the embedded one.
        create: Make the embedded one where there is neither a URL nor a data folder.

    Raises:
        BadSettings: No database is configured.
        DatabaseUnreachable: The embedded PostgreSQL does not start.
    """
    if settings.database_url is not None:
        yield settings.database_url.get_secret_value()
        return
    with EmbeddedPostgres(settings.home, binaries=settings.postgres_bin).acquire(create=create) as lease:
        yield lease.url


async def commit(session: AsyncSession) -> None:
    """Commit a session's work.

    Raises:
        OutcomeUnknown: It may be committed or not: its answer did not come, or not in time.
    """
    # What is still to be written is no part of that question.
    await session.flush()
    try:
        await session.commit()
    except BaseException as error:
        if is_cut_off(error):
            raise OutcomeUnknown from error
        raise


@dataclass(frozen=True, slots=True)
class Runtime:
    """The process's own resources; services get what they need of it by constructor.

    Attributes:
        settings: The frozen settings.
        database_url: The URL in use: the configured one, or the embedded server's.
        engine: The pool that requests share.
        direct: For what every request asks.
        spare: One connection that no request can take: for whoever asks whether the database is there.
        passwords: Policy and hashing.
        valkey: What all processes share besides the database, if the settings name one.
        turn: For what comes by the hundred, so that others come between.
        turnstile: For what few may do at once who want the same.
        one_at_a_time: For what is too much for a process to do twice at once.
    """

    settings: Settings
    database_url: str
    engine: AsyncEngine
    direct: Direct
    spare: Direct
    passwords: Passwords
    valkey: Valkey | None = None
    turn: Turn = field(default_factory=Turn)
    turnstile: Turnstile = field(default_factory=Turnstile)
    one_at_a_time: asyncio.Lock = field(default_factory=asyncio.Lock)

    @classmethod
    @asynccontextmanager
    async def open(
        cls, settings: Settings, *, url: str | None = None, pool_size: int | None = None
    ) -> AsyncIterator[Self]:
        """Hold the resources for the length of a `with` block.

        Args:
            settings: The frozen settings.
            url: The database that the caller holds; without it, one is held here.
            pool_size: Connections at most; the terminal needs one.

        Raises:
            BadSettings: No database is configured, or the URL cannot be read.
            DatabaseUnreachable: The embedded PostgreSQL does not start.
        """
        async with AsyncExitStack() as stack:
            if url is None:
                database = held_database(settings)
                url = await asyncio.to_thread(database.__enter__)
                stack.push(database.__exit__)
            engine = make_engine(url, settings, pool_size=pool_size)
            stack.push_async_callback(engine.dispose)
            options = unprepared(pool_size)
            direct = await stack.enter_async_context(Direct.open(url, settings, **options))
            options |= {"timeout": SPARE_SECONDS, "command_timeout": SPARE_SECONDS}
            spare = await stack.enter_async_context(Direct.open(url, settings, places=1, **options))
            passwords = Passwords(min_length=settings.password_min_length)
            stack.callback(passwords.close)
            valkey = Valkey.of(settings)
            if valkey is not None:
                stack.push_async_callback(valkey.close)
            yield cls(
                settings=settings,
                database_url=url,
                engine=engine,
                direct=direct,
                spare=spare,
                passwords=passwords,
                valkey=valkey,
            )

    @asynccontextmanager
    async def patient_engine(self) -> AsyncIterator[AsyncEngine]:
        """Hold an engine of two connections whose statements may take as long as they take."""
        engine = make_engine(self.database_url, self.settings, pool_size=2, patient=True)
        try:
            yield engine
        finally:
            await engine.dispose()

    @asynccontextmanager
    async def transaction(
        self, *, readonly: bool = False, rollback: bool = False, commit_on: tuple[type[ApictlError], ...] = ()
    ) -> AsyncIterator[AsyncSession]:
        """Hold a session whose work is committed when the block ends without an error.

        Args:
            readonly: Each statement stands alone (autocommit): no round trips for BEGIN and COMMIT.
            rollback: Undo everything at the end, as for a dry run.
            commit_on: Refusals in spite of which the work is committed: what was shown stays used up.

        Raises:
            ApictlError: The database's failures, in terms of the error table.
        """
        engine = self.engine.execution_options(isolation_level="AUTOCOMMIT") if readonly else self.engine
        with translated():
            session = AsyncSession(engine, expire_on_commit=False, autoflush=False)
            try:
                try:
                    yield session
                except commit_on:
                    await commit(session)
                    raise
                # Who has asked nothing has nothing to end, and no connection to give back.
                if session.in_transaction():
                    await (session.rollback() if rollback else commit(session))
            finally:
                if session.in_transaction():
                    # To its end, whoever is cancelled: as SQLAlchemy's own `async with` does it.
                    await asyncio.shield(session.close())
