"""The embedded PostgreSQL as its users see it: take a lease, connect to its URL, give it back.

Three locks decide everything, none of them ever a process id:

- `postgres.start` is held by whoever looks for a server, starts one, or leaves: one at a time;
- `postgres.users` is shared by every lease; the keeper waits for the exclusive lock, and gets it when nobody
  is left;
- `postgres.keeper` is held by the keeper: whoever gets it knows that there is none.
"""

import errno
import os
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType, TracebackType
from typing import Self
from urllib.parse import quote

from api.core.errors import BadSettings
from api.postgres import locks, pidfile
from api.postgres.account import server_account
from api.postgres.binaries import find, reachable
from api.postgres.cluster import DATABASE, ROLE, Cluster
from api.postgres.errors import EmbeddedPostgresFailed, NoDatabase
from api.postgres.folders import make_home, make_sockets, settle
from api.postgres.layout import PORT, Layout, locate
from api.postgres.spawn import start_keeper, too_late

CLOSE_LIMIT = 10.0
"""Seconds that the last user waits for the server to end."""


class EmbeddedPostgres:
    """A real PostgreSQL in a folder, shared by all who hold a lease, and stopped with the last of them."""

    def __init__(
        self,
        home: Path,
        *,
        binaries: Path | None = None,
        options: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        self._home = home
        self._binaries = binaries
        self._options = options

    @property
    def exists(self) -> bool:
        """Whether a complete data folder is there.

        Raises:
            BadSettings: The home is another account's.
        """
        _refuse_windows()
        return locate(self._home).exists

    @property
    def running_url(self) -> str | None:
        """Where to connect to a server that others hold; None if there is none."""
        layout = locate(self._home)
        running = layout.exists and pidfile.answers(layout.data, layout.sockets / f".s.PGSQL.{PORT}")
        return _url(layout) if running else None

    def acquire(self, *, create: bool = False, timeout: float = 30.0) -> "Lease":
        """Join the server, starting it if there is none.

        Args:
            create: Make the data folder if there is none. Only the commands that set a project up do so: in
                the wrong folder every other one must say so, not make an empty world.
            timeout: Seconds until the server must be ready.

        Raises:
            NoDatabase: There is no data folder, and `create` is not set. Nothing was touched.
            BadSettings: The folders, accounts or programs cannot work.
            EmbeddedPostgresFailed: The server did not start, or not in time.
        """
        _refuse_windows()
        try:
            return self._acquire(time.monotonic() + timeout, create=create)
        except OSError as error:
            full = error.errno in {errno.ENOSPC, errno.EDQUOT}
            raise (EmbeddedPostgresFailed if full else BadSettings)(
                f"{self._home} cannot hold a database",
                cause=str(error),
                hint="make room on its disk" if full else "make it writable, or set APICTL_HOME to another folder",
            ) from error

    def _acquire(self, deadline: float, *, create: bool) -> "Lease":
        layout = self._locate(create=create)
        if create and not layout.exists:
            make_home(layout.home, server_account(layout.data))
        with locks.opened(layout.lock("start")) as start:
            if not locks.take_by(start, deadline):
                raise too_late(layout, "Another process is starting it, or leaving it.")
            users = locks.open_lock(layout.lock("users"))
            try:
                return self._join(layout, users, deadline, create=create)
            except BaseException:
                os.close(users)
                raise

    def _join(self, layout: Layout, users: int, deadline: float, *, create: bool) -> "Lease":
        # A keeper that stops its server holds the lock; when it is gone, a new one can be started.
        if not locks.take_by(users, deadline, shared=True):
            raise too_late(layout, "The server is being stopped.")
        created = self._ensure_server(self._locate(create=create), deadline)
        return Lease(locate(self._home), users, created=created)

    def _locate(self, *, create: bool) -> Layout:
        layout = locate(self._home)
        if layout.exists:
            return layout
        if layout.place != layout.home:
            raise BadSettings(
                f"The data of {layout.home} are gone",
                cause=f"They were in {layout.place}, as {layout.pointer.name} says.",
                hint=f"put them back, or to begin with an empty database: rm '{layout.pointer}'",
            )
        if not create:
            raise NoDatabase(
                cause=f"APICTL_DATABASE_URL is not set, and {layout.data} does not exist.",
                hint="set APICTL_DATABASE_URL, or run `apictl quickstart` or `apictl migrate` in the project's folder",
            )
        return layout

    def _ensure_server(self, layout: Layout, deadline: float) -> bool:
        """Start a keeper or join the one there is; say whether the data folder was made."""
        while True:
            with locks.opened(layout.lock("keeper")) as own_lock:
                if locks.take(own_lock):
                    return start_keeper(self._prepare(layout), own_lock, deadline)
            # Its server may just be starting again after a crash, or the keeper be on its way out.
            if pidfile.answers(layout.data, layout.sockets / f".s.PGSQL.{PORT}"):
                return False
            if time.monotonic() >= deadline:
                raise too_late(layout, f"Its keeper runs, but the server is not ready; see {layout.log}.")
            time.sleep(locks.POLL)

    def _prepare(self, layout: Layout) -> Cluster:
        create = not layout.exists
        programs = find(self._binaries)
        major, version = programs.version()
        account = server_account(layout.data)
        if create:
            layout = settle(layout.home, account)
        programs = reachable(programs, account, version)
        cluster = Cluster(layout, programs, major, account, self._options, create)
        if not create:
            cluster.check_version()
        make_sockets(layout, account)
        return cluster


class Lease:
    """A share in the running server; the last one to be given back stops it.

    Attributes:
        url: Where to connect, with the password.
        created: Whether taking this lease made the data folder.
    """

    def __init__(self, layout: Layout, users: int, *, created: bool) -> None:
        self.url = _url(layout)
        self.created = created
        self._layout = layout
        self._users: int | None = users
        self._owner = os.getpid()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Give the share back; if it was the last one, wait for the server to end (10 seconds at most)."""
        users, self._users = self._users, None
        if users is None:
            return
        if os.getpid() != self._owner:
            os.close(users)  # a forked child's copy: the share is still its parent's
            return
        with locks.opened(self._layout.lock("start")) as start:
            self._leave(users, start, time.monotonic() + CLOSE_LIMIT)

    def _leave(self, users: int, start: int, deadline: float) -> None:
        """Leave one at a time: of two who leave together, one must see that it is the last."""
        try:
            if not locks.take_by(start, deadline):
                return
            # Not alone, and not because the keeper has the lock already: others are at work.
            if not locks.take(users) and locks.take(users, shared=True):
                return
        finally:
            os.close(users)
        # The keeper's end is the server's, unless the keeper was killed: then the server ends after it.
        for path in (self._layout.lock("keeper"), self._layout.cluster_lock):
            with locks.opened(path) as lock:
                locks.take_by(lock, deadline)


def _url(layout: Layout) -> str:
    try:
        password = layout.password.read_text()
    except FileNotFoundError:
        raise BadSettings(
            f"{layout.password} is gone",
            cause="The running server's password was in it.",
            hint="stop every apictl that uses this database: the next start sets a new password",
        ) from None
    host = quote(str(layout.sockets), safe="")
    return f"postgresql://{ROLE}:{quote(password, safe='')}@/{DATABASE}?host={host}&port={PORT}"


def _refuse_windows() -> None:
    if sys.platform == "win32":
        raise BadSettings(
            "The embedded PostgreSQL does not run on Windows",
            cause="It needs unix sockets and file locks.",
            hint="set APICTL_DATABASE_URL to a PostgreSQL server, or use WSL",
        )
