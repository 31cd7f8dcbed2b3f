"""What a scenario happens to: a PostgreSQL of its own, servers as processes, and a key to ask them with."""

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import asyncpg

from api.postgres.embedded import EmbeddedPostgres
from api.postgres.layout import locate
from benchmarks.servers import apictl, environment, free_port
from faults.clients import Client

SECRET: Final = os.urandom(32).hex()


@dataclass(frozen=True, slots=True)
class World:
    """A database that survives being killed, with a superuser in it.

    Attributes:
        folder: For what is written on the way.
        home: Of the database.
        url: Of the database.
        key: The superuser's API key.
        short: Whether everything is to be tried only once, and briefly.
    """

    folder: Path
    home: Path
    url: str
    key: str
    short: bool

    @property
    def postmaster(self) -> int:
        """The process of PostgreSQL; its keeper starts another one when it is killed."""
        return int((locate(self.home).data / "postmaster.pid").read_text(encoding="ascii").split()[0])

    @asynccontextmanager
    async def database(self) -> AsyncIterator[asyncpg.Connection]:
        """Hold a connection that does not go through what fails."""
        connection = await asyncpg.connect(self.url)
        try:
            yield connection
        finally:
            await connection.close()

    async def missing(self, emails: set[str]) -> tuple[int, int]:
        """Return how many of these users are not there, and how many are there more than once."""
        async with self.database() as database:
            rows = await database.fetch("SELECT email, count(*) FROM users WHERE email = ANY($1) GROUP BY 1", [*emails])
        return len(emails) - len(rows), sum(row["count"] > 1 for row in rows)

    def variables(self, url: str | None = None, **settings: str) -> dict[str, str]:
        """Return the environment of a process on this database, or on the way to it that the URL names."""
        return environment(APICTL_DATABASE_URL=url or self.url, APICTL_SECRET_KEY=SECRET, **settings)

    @asynccontextmanager
    async def server(
        self, url: str | None = None, *, port: int | None = None, workers: int = 1, **settings: str
    ) -> AsyncIterator["Server"]:
        """Have a server run, from when it is ready; whatever becomes of it in the block, it has ended afterwards."""
        port = port or free_port()
        line = apictl("serve", "--quiet", "--port", str(port), "--workers", str(workers))
        with (self.folder / "serve.log").open("ab") as log:
            process = subprocess.Popen(  # noqa: ASYNC220, S603 - our own, and at once
                line,
                cwd=self.folder,
                env=self.variables(url, **settings),
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        server = Server(process, port, self.key)
        try:
            client = Client(port, self.key)
            async with asyncio.timeout(30):
                while (await client.ask("GET", "/health/ready")).status != 200:  # noqa: ASYNC110 - another process's
                    await asyncio.sleep(0.05)
            client.close()
            yield server
        finally:
            await server.end(signal.SIGKILL)
            # Workers outlive the process that watches over them.
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)


@dataclass(frozen=True, slots=True)
class Server:
    """A process that serves."""

    process: subprocess.Popen[bytes]
    port: int
    key: str

    async def end(self, how: signal.Signals = signal.SIGTERM) -> int:
        """Tell it to end, and return its exit code."""
        if self.process.poll() is None:
            self.process.send_signal(how)
        return await asyncio.to_thread(self.process.wait, 60)


@contextmanager
def world(folder: Path, *, short: bool, home: Path | None = None) -> Iterator[World]:
    """Make a database in a folder of its own, or in `home`, and hold it."""
    home = home or folder / "pg"
    # Durable, as it would be anywhere: what is acknowledged is on the disk.
    with EmbeddedPostgres(home).acquire(create=True) as lease:
        made = World(folder, home, lease.url, "", short)
        key = folder / f"{home.name}.key"
        scopes = ("--key-scope", "users:read", "--key-scope", "users:write")
        line = apictl("bootstrap", "root@example.com", "--no-password", "--key-file", str(key), *scopes)
        ended = subprocess.run(line, cwd=folder, env=made.variables(), capture_output=True, text=True, check=False)  # noqa: S603
        if ended.returncode:
            sys.exit(ended.stderr)
        yield World(folder, home, lease.url, key.read_text(encoding="ascii").strip(), short)
