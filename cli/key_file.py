"""The file that a key is kept in: private, whole or not there, and one process at a time decides what is in it."""

import asyncio
import os
import stat
import time
from collections.abc import AsyncIterator
from contextlib import AbstractContextManager, asynccontextmanager
from pathlib import Path
from typing import Final

from api.core.errors import BadRequest, Busy

# More than a key has.
MOST: Final = 1024
# Seconds that others are waited for, and between two attempts.
PATIENCE: Final = 60.0
POLL: Final = 0.05


def check_folder(file: Path, *, create: bool) -> None:
    """Go on only if a private file can be made there; its folder is made if that one alone is missing.

    Raises:
        BadRequest: It cannot, or others could put a file of theirs in its place.
    """
    folder = file.parent
    try:
        if create and not folder.exists():
            folder.mkdir(mode=0o700, exist_ok=True)
        if not folder.exists():
            return
        mode = folder.stat().st_mode
    except OSError as error:
        raise BadRequest(f"{file} cannot be written", cause=error.strerror) from None
    if mode & 0o002 and not mode & stat.S_ISVTX:
        raise BadRequest(
            f"Everybody could put a file of theirs in the place of {file}",
            hint=f"name a folder in it, as {folder / 'private' / file.name}: one that is missing is made",
        )
    if not stat.S_ISDIR(mode) or not os.access(folder, os.W_OK | os.X_OK):
        raise BadRequest(f"{file} cannot be written", hint="name a file in a folder of your own")


def held_in(file: Path) -> str | None:
    """Return the key that a file holds; None where there is no such file, or nothing in it.

    Raises:
        BadRequest: It is not ours, others can read it, or something else is in it, which would be lost.
    """
    from api.api_keys.secret import ApiKeySecret

    try:
        descriptor = os.open(file, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    except OSError as error:
        why = "it is a symbolic link" if file.is_symlink() else error.strerror
        raise BadRequest(f"{file} is not read", cause=why, hint="name another file") from None
    try:
        require_private(descriptor, file, hint=f"after rm '{file}', a new key is made")
        text = os.read(descriptor, MOST).decode(errors="replace").removesuffix("\n")
    finally:
        os.close(descriptor)
    if text and ApiKeySecret.parse(text) is None:
        raise BadRequest(f"{file} holds something else than a key", hint="name another file; nothing was changed there")
    return text or None


def require_private(descriptor: int, file: Path, *, hint: str) -> None:
    """Go on only if an open file is one, is ours, and nobody else can read it.

    Raises:
        BadRequest: It is not.
    """
    found = os.fstat(descriptor)
    if not stat.S_ISREG(found.st_mode):
        raise BadRequest(f"{file} is no file", hint="name another one")
    if found.st_uid != os.geteuid() or found.st_mode & 0o077:
        whose = "Others can read" if found.st_uid == os.geteuid() else "Somebody else owns"
        raise BadRequest(f"{whose} {file}", hint=hint)


@asynccontextmanager
async def turn_at(file: Path) -> AsyncIterator[None]:
    """Be the only process that decides about a file, for the length of a `with` block.

    The lock is the folder's: the file itself is replaced, and one more file beside it would stay behind.

    Raises:
        Busy: Others are still at it after a minute.
        BadRequest: The folder cannot be locked.
    """
    descriptor = await locked(file.parent)
    try:
        yield
    finally:
        os.close(descriptor)


async def locked(folder: Path) -> int:
    """Return a descriptor that holds a folder's lock until it is closed."""
    # Not there on Windows.
    from api.postgres.locks import take

    deadline = time.monotonic() + PATIENCE
    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        while not take(descriptor):
            if time.monotonic() > deadline:
                raise Busy(f"Other processes are at work on what is kept in {folder}", hint="run it again")
            await asyncio.sleep(POLL)
    except OSError as error:
        raise BadRequest(f"{folder} cannot be locked", cause=error.strerror) from None
    return descriptor


class KeyLog(AbstractContextManager["KeyLog"]):
    """A file of many keys, a line each, to which more are added; nobody else may read it."""

    def __init__(self, file: Path) -> None:
        """Open it, or make it, before there is anything to be lost.

        Raises:
            BadRequest: It is not ours, others can read it, or nothing can be added.
        """
        check_folder(file, create=False)
        self.file = file
        self._is_new = not file.exists()
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        try:
            self._descriptor = os.open(file, flags, 0o600)
        except OSError as error:
            why = "it is a symbolic link" if file.is_symlink() else error.strerror
            raise BadRequest(f"{file} cannot be written", cause=why, hint="name another file") from None
        try:
            require_private(self._descriptor, file, hint=f"chmod 600 '{file}', or name another file")
        except BadRequest:
            os.close(self._descriptor)
            raise

    def __exit__(self, *_: object) -> None:
        if self._is_new and os.fstat(self._descriptor).st_size == 0:
            self.file.unlink(missing_ok=True)
        os.close(self._descriptor)

    def add(self, lines: list[str]) -> None:
        """Write lines to the disk, all of them or none.

        Raises:
            OSError: They cannot be written.
        """
        size = os.fstat(self._descriptor).st_size
        try:
            with os.fdopen(os.dup(self._descriptor), "wb") as target:
                target.write("".join(f"{line}\n" for line in lines).encode())
                target.flush()
                os.fsync(self._descriptor)
        except OSError:
            os.ftruncate(self._descriptor, size)
            raise
