"""File locks with a deadline; the kernel drops them when their last holder dies, however it dies.

`flock`, not `fcntl` locks: they belong to the open file, so a child that inherits it holds them too.
"""

import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

if sys.platform != "win32":
    import fcntl

POLL = 0.005
"""Seconds between two attempts: short beside a start (0.1 s), long beside an attempt (a microsecond)."""


def open_lock(path: Path) -> int:
    """Open (or make) a lock file that its owner alone can open.

    Raises:
        OSError: The folder cannot be written, or the file is somebody else's.
    """
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)


@contextmanager
def opened(path: Path) -> Iterator[int]:
    """Open a lock file, and close it after: unless a child inherited it, that gives the lock back.

    Raises:
        OSError: As `open_lock`.
    """
    fd = open_lock(path)
    try:
        yield fd
    finally:
        os.close(fd)


def take(fd: int, *, shared: bool = False) -> bool:
    """Take the lock if that is possible now.

    A failed attempt to turn a share into the exclusive lock loses the share.
    """
    try:
        fcntl.flock(fd, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def take_by(fd: int, deadline: float, *, shared: bool = False) -> bool:
    """Take the lock as soon as possible, giving up at `deadline` (on `time.monotonic`'s clock)."""
    while not take(fd, shared=shared):
        if time.monotonic() >= deadline:
            return False
        time.sleep(POLL)
    return True


def wait(fd: int) -> None:
    """Take the exclusive lock, however long that takes, asleep in the kernel."""
    fcntl.flock(fd, fcntl.LOCK_EX)
