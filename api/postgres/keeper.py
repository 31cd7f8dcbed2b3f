"""The process that keeps one server: starts it, starts it again when it dies, stops it when nobody uses it.

It is detached from whoever started it, and has no threads: the kernel must see the server's parent die just
when this process does, and `wait` is then all it needs to learn of either event it waits for.
"""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time

from api.core.errors import ApictlError
from api.postgres import locks, pidfile
from api.postgres.cluster import Cluster, dying_with_parent
from api.postgres.errors import EmbeddedPostgresFailed
from api.postgres.initdb import initialise, replace_password

PAUSES = (0.0, 0.1, 0.5, 2.0)
"""Seconds before each attempt to start a server again that died; after the last one we give up."""

STEADY = 60.0
"""Seconds after which a server counts as well, and its next death as the first."""

PATIENCE = 30.0
"""Seconds for the processes of a dead server to go, and for each way of stopping a live one."""

LOG_LIMIT = 8 * 1024 * 1024


class Keeper:
    """One server, from its start to its stop."""

    def __init__(self, cluster: Cluster, own_lock: int) -> None:
        self._cluster = cluster
        self._own_lock = own_lock
        self._users = locks.open_lock(cluster.layout.lock("users"))
        self._server: subprocess.Popen[bytes] | None = None
        self._watcher = 0
        self._ready_at = 0.0
        self._deaths = 0

    def start(self) -> bool:
        """Start the server, making its data first where they are missing, and wait until it is ready.

        Returns:
            Whether the data folder was made.

        Raises:
            ApictlError: It did not start.
        """
        layout = self._cluster.layout
        # Every process of the cluster inherits this lock: once we have it, none of them is alive, whatever
        # a pid file says. It is opened anew each time, so that our own copy does not outlive the start.
        with locks.opened(layout.cluster_lock) as lock:
            self._wait_for_the_dead(lock)
            created = not layout.exists and self._cluster.create
            if created:
                initialise(self._cluster, lock)
            self._cluster.check_version()
            pidfile.clear_stale(layout.data)
            pidfile.clear_sockets(layout.sockets)
            if not layout.password.exists():
                replace_password(self._cluster, lock)
            self._server = self._cluster.start(lock)
        self._wait_until_ready(self._server)
        return created

    def keep(self) -> None:
        """Keep the server until nobody uses it any more, or until it cannot be kept."""
        while True:
            pid, status = os.wait()
            if pid == self._watcher:
                if self._unused():
                    return self.stop()
                self.watch()
            elif self._server is not None and pid == self._server.pid:
                self._server.returncode = os.waitstatus_to_exitcode(status)
                say(f"the server ended with {self._server.returncode} while it was in use")
                if not self._start_again():
                    return None

    def stop(self) -> None:
        """Stop our own child: fast, then without its consent; no way of stopping loses a committed row."""
        if self._server is None:
            return
        for number, patience in (
            (signal.SIGINT, PATIENCE),
            (signal.SIGQUIT, PATIENCE),
            (signal.SIGKILL, PATIENCE),
        ):
            if self._server.poll() is None:
                self._server.send_signal(number)
            until = time.monotonic() + patience
            while self._server.poll() is None and time.monotonic() < until:
                time.sleep(locks.POLL)
            if self._server.returncode is not None:
                return

    def _wait_for_the_dead(self, lock: int) -> None:
        until = time.monotonic() + PATIENCE
        while not locks.take(lock):
            self._leave_if_unused()
            if time.monotonic() > until:
                path = self._cluster.layout.cluster_lock
                raise EmbeddedPostgresFailed(
                    "Processes of an earlier server are still there",
                    cause=f"They hold {path}.",
                    hint=f"try again; if it lasts, see who they are: fuser -v '{path}'",
                )
            time.sleep(locks.POLL)

    def _wait_until_ready(self, server: subprocess.Popen[bytes]) -> None:
        """Wait as long as somebody waits for us: recovery after a crash takes the time that it takes."""
        while server.poll() is None:
            found = pidfile.read(self._cluster.layout.data)
            if found == pidfile.PidFile(server.pid, pidfile.READY):
                self._ready_at = time.monotonic()
                return
            self._leave_if_unused()
            time.sleep(locks.POLL)
        raise EmbeddedPostgresFailed(
            "The embedded PostgreSQL ended as soon as it was started",
            cause=last_lines(self._cluster),
            hint=f"the whole story is in {self._cluster.layout.log}",
        )

    def _start_again(self) -> bool:
        if time.monotonic() - self._ready_at > STEADY:
            self._deaths = 0
        while self._deaths < len(PAUSES):
            until = time.monotonic() + PAUSES[self._deaths]
            self._deaths += 1
            while time.monotonic() < until:
                self._leave_if_unused()
                time.sleep(locks.POLL)
            try:
                self.start()
            except (ApictlError, OSError) as error:
                say(f"it did not start again: {error}")
            else:
                return True
        say("giving up; the next command that needs the server will try")
        return False

    def _unused(self) -> bool:
        return locks.take(self._users)

    def _leave_if_unused(self) -> None:
        if self._unused():
            self.stop()
            sys.exit(0)

    def watch(self) -> None:
        """Let a child sleep until nobody uses the server: its end then wakes us, as the server's does.

        The lock that it gets is ours too: we opened the file that both of us hold.
        """
        die_with_parent = dying_with_parent(signal.SIGKILL)
        waiting, done = os.pipe()
        self._watcher = os.fork()
        if self._watcher == 0:
            die_with_parent()
            # Everything but the lock: with our own it would look as if there were a keeper when we are killed alone,
            # and whoever waits for our answer would wait for its end.
            os.closerange(3, self._users)
            os.closerange(self._users + 1, 1024)
            locks.wait(self._users)
            os._exit(0)
        os.close(done)
        # Until the child has let go of the lock: whoever found it taken would join a server without a keeper.
        os.read(waiting, 1)
        os.close(waiting)


def say(text: str) -> None:
    """Write a line to the log, which is our standard error; a full disk must not end us."""
    now = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime())
    with contextlib.suppress(OSError):
        os.write(2, f"{now} [keeper] {text}\n".encode())


def last_lines(cluster: Cluster, count: int = 5) -> str:
    """Give the end of the log."""
    with cluster.layout.log.open("rb") as log:
        log.seek(max(0, log.seek(0, os.SEEK_END) - 4096))
        return "\n".join(log.read().decode(errors="replace").splitlines()[-count:])


def open_log(cluster: Cluster) -> None:
    """Make the log our output, and so the server's, after putting a long one aside."""
    path = cluster.layout.log
    if path.exists() and path.stat().st_size > LOG_LIMIT:
        path.replace(path.with_name(f"{path.name}.1"))
    log = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    os.dup2(log, 1)
    os.dup2(log, 2)
    os.close(log)


def answer(pipe: int, result: dict[str, object]) -> None:
    """Tell the process that started us how it went, and let go of it."""
    with contextlib.suppress(OSError):  # it may be gone, and its share of the lock with it: we shall see that
        os.write(pipe, json.dumps(result).encode())
    os.close(pipe)


def main() -> None:
    """Detach, start the server, answer, and keep it."""
    if os.fork():
        os._exit(0)  # so the process that started us has no child left to wait for
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        # The server lives as long as its users: at a system's shutdown these get the signal too, and may need
        # it until their end. A handler, not SIG_IGN, which the server would inherit.
        signal.signal(number, lambda *_: None)
    os.umask(0o077)
    os.chdir("/")
    cluster, own_lock = Cluster.from_json(sys.argv[1]), int(sys.argv[2])
    # Until here a traceback goes to the process that started us, from here to the log.
    pipe = os.dup(1)
    open_log(cluster)
    keeper = Keeper(cluster, own_lock)
    try:
        created = keeper.start()
    except OSError as error:
        answer(pipe, {"code": EmbeddedPostgresFailed.code, "detail": None, "cause": str(error), "hint": None})
        return
    except ApictlError as error:
        answer(pipe, {"code": error.code, "detail": error.detail, "cause": error.cause, "hint": error.hint})
        return
    keeper.watch()
    answer(pipe, {"created": created})
    keeper.keep()
