"""What a data folder says about its server, and what the machine says: never trust a process id alone."""

import os
import socket
import sys
from dataclasses import dataclass
from pathlib import Path

from api.core.errors import BadSettings

READY = "ready"


@dataclass(frozen=True)
class PidFile:
    """What we read from `postmaster.pid`: its lines 1 and 8.

    Attributes:
        pid: The postmaster's process id, or None when the file is garbage.
        status: `ready`, `starting`, `stopping`, or empty.
    """

    pid: int | None
    status: str


def read(data: Path) -> PidFile | None:
    """Read `postmaster.pid`; None if there is none."""
    try:
        # The folder is another account's when root reads it: no link is followed, no pipe is waited for.
        fd = os.open(data / "postmaster.pid", os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    except OSError:
        return PidFile(None, "")
    with os.fdopen(fd, "rb") as file:
        lines = file.read(4096).decode(errors="replace").splitlines()
    first = lines[0].strip() if lines else ""
    pid = int(first) if first.isascii() and first.isdigit() else 0
    return PidFile(pid or None, lines[7].strip() if len(lines) > 7 else "")


def answers(data: Path, address: Path) -> bool:
    """Whether a server of this data folder is ready, and something listens on its socket."""
    found = read(data)
    if found is None or found.status != READY:
        return False
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
        client.settimeout(1)
        try:
            client.connect(str(address))
        except OSError:
            return False
    return True


def clear_stale(data: Path) -> None:
    """Remove a pid file that would stop a start for nothing.

    To be called by the holder of the cluster lock: no server that we started is alive then, so only one that
    somebody started by hand can be.

    Raises:
        BadSettings: A server that is not ours works on this folder.
    """
    found = read(data)
    if sys.platform == "linux":
        pid = _server_in(data)
        stale = found is not None and (found.pid is None or Path(f"/proc/{found.pid}").exists())
    else:
        # Without /proc nobody can tell a postmaster from a stranger: a person has to.
        pid = found.pid if found is not None and found.pid is not None and _alive(found.pid) else None
        stale = False
    if pid is not None:
        raise BadSettings(
            f"A PostgreSQL that apictl did not start runs on {data}",
            cause=f"It is process {pid}.",
            hint=f"stop it (pg_ctl stop -D '{data}'), or set APICTL_DATABASE_URL to its address",
        )
    # PostgreSQL itself clears the file of a dead process, after checks that we could not do better.
    if stale:
        (data / "postmaster.pid").unlink()


def clear_sockets(folder: Path) -> None:
    """Remove a dead server's socket and its lock file, which names a process id just as blindly."""
    for path in folder.glob(".s.PGSQL.*"):
        path.unlink()


def _server_in(data: Path) -> int | None:
    """Find a PostgreSQL process at work in the folder: each of them has it as its current folder."""
    home = data.stat()
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            if (entry / "exe").readlink().name.removesuffix(" (deleted)") != "postgres":
                continue
            where = (entry / "cwd").stat()
        except OSError:
            continue  # it ended, or it is another account's and so cannot be in our folder
        if os.path.samestat(where, home):
            return int(entry.name)
    return None


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)  # signal 0 asks, it does not signal
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
