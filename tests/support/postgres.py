"""The suite's own PostgreSQL: one server a run, one database a test, copied from a migrated template."""

import asyncio
import fcntl
import os
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any, Final
from urllib.parse import parse_qsl, unquote, urlsplit, urlunsplit
from uuid import UUID, uuid4

import asyncpg
from pydantic import SecretStr
from sqlalchemy import update
from sqlalchemy.dialects.postgresql.asyncpg import PGDialect_asyncpg
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from sqlalchemy.util import LRUCache

import api.database as database_module
from api.config import Settings
from api.core.actor import Actor
from api.core.runtime import Runtime
from api.migrations.revisions import head
from api.migrations.schemas import MigrationUpgrade
from api.migrations.service import MigrationService
from api.postgres.embedded import EmbeddedPostgres
from api.signing_keys.ring import load
from api.tokens.keys import Keys
from api.users.models import User
from api.users.schemas import UserCreate
from api.users.service import UserService

# A server that we did not embed. Never APICTL_DATABASE_URL: that one may hold somebody's data.
SERVER_VARIABLE: Final = "APICTL_TEST_SERVER_URL"
# A file in the folder of the run: what every process of it signs and seals with.
SECRET_KEY: Final = "secret_key"
# Durability is PostgreSQL's to test; a template is copied faster as files than through the log. And nobody but a
# superuser may drop a database in which autovacuum is at work.
OPTIONS: Final = {
    "autovacuum": "off",
    "fsync": "off",
    "full_page_writes": "off",
    "max_connections": "300",
    "synchronous_commit": "off",
}


@contextmanager
def server(shared: Path) -> Iterator[str]:
    """Hold the suite's server, started by whichever process comes first."""
    given = os.environ.get(SERVER_VARIABLE)
    if given:
        yield given
        return
    with EmbeddedPostgres(shared / "server", options=OPTIONS).acquire(create=True) as lease:
        with locked(shared / "role.lock"):
            asyncio.run(log_in_faster(lease.url))
        yield lease.url


async def log_in_faster(url: str) -> None:
    """Have the same password hashed once instead of 4,096 times: a test logs in to the database ten times or so."""
    parts = urlsplit(url)
    async with connected(url) as connection:
        await connection.execute("SET scram_iterations = 1")
        await connection.execute(f"ALTER ROLE \"{parts.username}\" PASSWORD '{unquote(parts.password or '')}'")


def named(url: str, database: str) -> str:
    """Return the URL of another database of the same server."""
    return urlunsplit(urlsplit(url)._replace(path=f"/{database}")).replace("postgresql:/", "postgresql:/", 1)


@asynccontextmanager
async def connected(url: str) -> AsyncIterator[asyncpg.Connection]:
    """Hold a connection of our own, beside the application's."""
    connection = await asyncpg.connect(url)
    try:
        yield connection
    finally:
        await connection.close()


@asynccontextmanager
async def over_tcp(url: str, port: int) -> AsyncIterator[None]:
    """Let a server, wherever it listens, be reached at this port of the loopback too."""
    parts = urlsplit(url)

    async def forward(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if parts.hostname:
            other = await asyncio.open_connection(parts.hostname, parts.port)
        else:
            query = dict(parse_qsl(parts.query))
            other = await asyncio.open_unix_connection(f"{query['host']}/.s.PGSQL.{query.get('port', '5432')}")

        async def copy(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
            while data := await source.read(65536):
                sink.write(data)
            sink.close()

        await asyncio.gather(copy(reader, other[1]), copy(other[0], writer), return_exceptions=True)

    async with await asyncio.start_server(forward, "127.0.0.1", port):
        yield


async def somebody_waits(connection: asyncpg.Connection, *, number: int = 1) -> None:
    """Return when so many others wait for a lock in this database; it may be one that our own transaction holds."""
    # Not pg_stat_activity, which stands still inside our own transaction. And who waits for a row waits for a
    # transaction, which is of no database: but they hold other locks in it.
    waiting = (
        "SELECT count(*) FROM pg_locks WHERE NOT granted AND pid IN (SELECT pid FROM pg_locks WHERE database = "
        "(SELECT oid FROM pg_database WHERE datname = current_database()))"
    )
    async with asyncio.timeout(20):
        while await connection.fetchval(waiting) < number:
            await asyncio.sleep(0.01)


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Let one process of the run at a time do this."""
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


async def migrate(url: str) -> None:
    """Bring a database to head, as `apictl migrate` does."""
    async with Runtime.open(Settings(database_url=SecretStr(url))) as runtime:
        await MigrationService(runtime.transaction, runtime.patient_engine, Actor.operator("tests")).upgrade(
            MigrationUpgrade()
        )


async def template(url: str, shared: Path, *, superuser: tuple[UUID, str, str] | None = None) -> str:
    """Return the name of the migrated database that every test's is a copy of.

    Args:
        url: The server.
        shared: The folder that all processes of this run share.
        superuser: Id, e-mail address and password hash of a superuser who is there already, as is a signing key.
    """
    run = os.environ.get("PYTEST_XDIST_TESTRUNUID", str(os.getpid()))[:12]
    name = f"apictl_test_{run}_{head()}" + ("_superuser" if superuser else "")
    with locked(shared / "template.lock"):
        async with connected(url) as connection:
            if not await connection.fetchval("SELECT 1 FROM pg_database WHERE datname = $1", name):
                await connection.execute(f'CREATE DATABASE "{name}"')
                await migrate(named(url, name))
                if superuser is not None:
                    secret = SecretStr((shared / SECRET_KEY).read_text(encoding="ascii"))
                    await add_superuser(named(url, name), *superuser, secret_key=secret)
    return name


async def add_superuser(url: str, user_id: UUID, email: str, password_hash: str, *, secret_key: SecretStr) -> None:
    """Create the first superuser, as quickstart does, and give them this id and password; and the first signing key."""
    settings = Settings(database_url=SecretStr(url), secret_key=secret_key)
    async with (
        Runtime.open(settings) as runtime,
        runtime.transaction() as session,
    ):
        users = UserService(session, Actor.operator("tests"), runtime.passwords)
        created = await users.create_first_superuser(UserCreate(email=email))
        assert created is not None
        values = {"id": user_id, "password_hash": password_hash}
        await session.execute(update(User).where(User.id == created.id).values(values))
        await load(Keys.load(settings), session, settings.signing_algorithm, door="cli")


@asynccontextmanager
async def database(url: str, *, copy_of: str | None) -> AsyncIterator[str]:
    """Hold a database of one's own: a copy of the template, or an empty one."""
    name = f"apictl_test_{uuid4().hex}"
    # One connection for both: to make one takes as long as half a database.
    async with connected(url) as connection:
        # As files: that takes half as long as through the log.
        copied = f' TEMPLATE "{copy_of}" STRATEGY FILE_COPY' if copy_of else ""
        await connection.execute(f'CREATE DATABASE "{name}"' + copied)
        try:
            yield named(url, name)
        finally:
            await connection.execute(f'DROP DATABASE "{name}" WITH (FORCE)')


def compile_once() -> None:
    """Have each statement compiled once a process, and not once an engine: every test has one of its own.

    SQLAlchemy shares a cache between engines on request, and keeps entries of different dialects apart; ours are all
    alike.
    """
    compiled: LRUCache[Any, Any] = LRUCache(2000)

    def sharing(*arguments: Any, **options: Any) -> AsyncEngine:
        return create_async_engine(*arguments, **options).execution_options(compiled_cache=compiled)

    PGDialect_asyncpg.__eq__ = lambda self, other: type(self) is type(other)  # type: ignore[method-assign]
    PGDialect_asyncpg.__hash__ = lambda self: hash(type(self))  # type: ignore[method-assign]
    vars(database_module)["create_async_engine"] = sharing
